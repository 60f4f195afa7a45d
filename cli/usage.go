package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What is said of a call that cobra and pflag refuse, in words for the person
// who typed it.

// noArgs is for commands that take flags only: all of this package that do not
// say otherwise.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if f := cmd.Flags().Lookup("service"); f != nil && !f.Changed {
		hint = fmt.Sprintf(" (did you mean --service %s?)", args[0])
	}
	return fmt.Errorf("unexpected argument %q: %s takes flags only%s", args[0], cmd.CommandPath(), hint)
}

// flagError says what is wrong with a flag of cmd. rest is what was typed behind
// the command's name.
func flagError(cmd *cobra.Command, rest []string, err error) error {
	// Flags before the command are parsed as its parent's, and the command is not found.
	for i, word := range rest {
		sub, _, err := cmd.Find([]string{word})
		if err == nil && sub != cmd && strings.HasPrefix(rest[0], "-") {
			return usagef("flags go behind the command: %s %s", sub.CommandPath(), strings.Join(slices.Delete(slices.Clone(rest), i, i+1), " "))
		}
	}
	// Flags behind a misspelled command are parsed as its parent's.
	if i := slices.IndexFunc(rest, func(arg string) bool { return !strings.HasPrefix(arg, "-") }); cmd.HasSubCommands() && i >= 0 {
		return unknownCommand(cmd, rest[i])
	}
	var no *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &no) && no.GetSpecifiedShortnames() == "":
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, "--"+f.Name)
			}
		})
		return fmt.Errorf("%w%s", err, didYouMean("--"+no.GetSpecifiedName(), known))
	case errors.As(err, &invalid):
		if want := wanted(invalid.GetFlag().Value.Type()); want != "" {
			return fmt.Errorf("--%s: is %q, want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
		}
	}
	return err
}

// wanted says what a flag of pflag's type takes; "" where the flag says it itself.
func wanted(kind string) string {
	switch kind {
	case "int", "uint16", "int64":
		return "a whole number"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	case "duration":
		return "a time such as 30s, 10m or 1h, or a number of seconds"
	}
	return ""
}

// ofPaaSTA are commands of PaaSTA that others of ours come nearest to.
var ofPaaSTA = map[string]string{
	"check": "validate", "emergency-restart": "restart", "emergency-start": "start", "emergency-stop": "stop",
}

// unknownCommand is the error for a word that is no subcommand of cmd.
func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			known = append(known, sub.Name())
		}
	}
	guess := didYouMean(word, known)
	if ours := ofPaaSTA[word]; guess == "" && ours != "" {
		guess = fmt.Sprintf(" (did you mean %q?)", ours)
	}
	return usagef("unknown command %q%s", strings.TrimPrefix(cmd.CommandPath()+" "+word, "paasta "), guess)
}

// selecting are the flags that say what a command acts on.
var selecting = []string{
	"service", "instances", "instance", "clusters", "cluster", "deploy-groups", "deploy-group", "owner", "registration",
	"commit", "git-url", "soa-dir", "yelpsoa-config-root",
}

// checkSelecting refuses a selecting flag that was given without a value, which
// would select everything: stop -i "$INSTANCE" in a script that has not set it.
// A service may be typed as the shell completes its directory, with a slash.
func checkSelecting(cmd *cobra.Command) error {
	for _, name := range selecting {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		if value := f.Value.String(); value == "" || value == "[]" {
			return usagef("--%s is given and empty: is a variable not set?", name)
		}
	}
	if f := cmd.Flags().Lookup("service"); f != nil && f.Value.Type() == "string" {
		if name, ok := strings.CutSuffix(f.Value.String(), "/"); ok {
			return f.Value.Set(name)
		}
	}
	return nil
}
