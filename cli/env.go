// Package cli is what people type: one file a command. It is the only user of
// cobra and of the terminal library. The daemons' commands come from their own
// trees as command.Command and are hung in here.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// Exit codes of every command.
const (
	exitOK          = 0
	exitFailed      = 1   // tried and failed
	exitUsage       = 2   // called wrongly
	exitNotHealthy  = 3   // worked, and the answer is "not healthy"
	exitInterrupted = 130 // Ctrl-C
)

// Env is the surroundings of a command. Tests make their own.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// TTY says whether Out is a terminal: then tables have headers and colour,
	// and times are relative. InTTY says that In is one: only then a command asks
	// questions. ErrTTY says that Err is one: only then waiting redraws.
	TTY, InTTY, ErrTTY bool
	Color              bool // false with NO_COLOR or in a pipe
	Width              int  // columns of the terminal; 0 when unknown
	Now                func() time.Time
	Getwd              func() (string, error) // nil: os.Getwd
	// Config reads the system config once, on first use.
	Config func() (sysconfig.Config, error)
	// Version is what "paasta --version" prints.
	Version string

	lost error // what first kept printf from writing the answer
}

// Main runs paasta with args and returns its exit code. more holds the commands
// of the other trees.
func Main(ctx context.Context, env *Env, args []string, more ...command.Command) int {
	root := newRoot(env)
	for _, c := range more {
		cmd := hang(env, c)
		cmd.GroupID = operating
		root.AddCommand(cmd)
	}
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	parents(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		_, rest, _ := root.Find(args) // it was found before its flags were parsed
		return flagError(cmd, rest, err)
	})

	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		requireService(env, cmd)
		return checkSelecting(cmd)
	}

	// An error before a command starts is about how it was called.
	started := false
	everyCommand(root, func(cmd *cobra.Command) {
		compatible(cmd)
		cmd.DisableFlagsInUseLine = true // ours say which flags matter
		if run := cmd.RunE; run != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				started = true
				return run(cmd, args)
			}
		}
	})

	// cobra shows the help of whatever it found, and a help function returns nothing.
	var misnamed error
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if found, rest, err := root.Find(args); err == nil && found == cmd && len(args) > 0 {
			if word := unknownWord(cmd, rest); word != "" {
				misnamed = unknownCommand(cmd, word)
				return
			}
		}
		env.printf("%s", helpText(cmd))
	})
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = misnamed
	}
	if env.lost != nil && (err == nil || errors.Is(err, command.ErrNotHealthy)) {
		err = fmt.Errorf("write the answer: %w", env.lost)
	}
	var usage command.UsageError
	var exit command.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.Code
	case errors.Is(err, command.ErrNotHealthy):
		return exitNotHealthy
	case ctx.Err() != nil:
		fmt.Fprintln(env.Err, "paasta: interrupted")
		return exitInterrupted
	case !started || errors.As(err, &usage):
		fmt.Fprintf(env.Err, "paasta: %v\nRun '%s --help' for usage.\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(env.Err, "paasta: %v\n", err)
	if hinted, ok := errors.AsType[command.HintedError](err); ok {
		fmt.Fprintf(env.Err, "Try: %s\n", hinted.Hint)
	}
	return exitFailed
}

// everyCommand calls f with root and all commands below it.
func everyCommand(root *cobra.Command, f func(*cobra.Command)) {
	f(root)
	for _, sub := range root.Commands() {
		everyCommand(sub, f)
	}
}

// hang turns a command of another tree into one of cobra's.
func hang(env *Env, c command.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: c.Use, Short: c.Short, Long: c.Long, Example: c.Example, Hidden: c.Hidden,
	}
	if c.Flags != nil {
		c.Flags(cmd.Flags())
	}
	if c.Run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return c.Run(cmd.Context(), command.IO{In: env.In, Out: env.Out, Err: env.Err}, args)
		}
	}
	for _, sub := range c.Sub {
		cmd.AddCommand(hang(env, sub))
	}
	return cmd
}
