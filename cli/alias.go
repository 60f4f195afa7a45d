package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/git"
)

// What scripts that were written for PaaSTA type, and ours does not show.

// alias adds another name for a flag. It sets that flag, so that what cobra
// requires of it, or excludes, holds for both.
func alias(cmd *cobra.Command, name, short, of string) {
	f := cmd.Flags().Lookup(of)
	same := cmd.Flags().VarPF(setter{f.Value, func(text string) error { return cmd.Flags().Set(of, text) }}, name, short, "the same as --"+of)
	same.DefValue, same.NoOptDefVal = "", f.NoOptDefVal
}

// hiddenAlias is one that the help does not show.
func hiddenAlias(cmd *cobra.Command, name, short, of string) {
	alias(cmd, name, short, of)
	must(cmd.Flags().MarkHidden(name))
}

// A setter is a flag whose value goes elsewhere.
type setter struct {
	pflag.Value
	set func(string) error
}

func (s setter) Set(text string) error { return s.set(text) }

// ignored adds a flag of PaaSTA that can mean nothing here. It is taken, and why
// it does nothing is said once.
func ignored(cmd *cobra.Command, env *Env, name, why string) {
	cmd.Flags().Func(name, "does nothing here: "+why, func(string) error {
		if !cmd.Flags().Changed(name) {
			env.notef("paasta: --%s does nothing here: %s", name, why)
		}
		return nil
	})
	must(cmd.Flags().MarkHidden(name))
}

// compatible has cmd take what PaaSTA's own would: its name with underscores,
// other names of flags, flags that are cut short, and times as seconds or with
// a unit. A flag that is there by its full name is never another.
func compatible(cmd *cobra.Command) {
	if name := cmd.Name(); strings.Contains(name, "-") {
		cmd.Aliases = append(cmd.Aliases, strings.ReplaceAll(name, "-", "_"))
	}
	flags := cmd.Flags()
	known := map[string]bool{"help": true}
	flags.VisitAll(func(f *pflag.Flag) {
		known[f.Name] = true
		if f.Value.Type() == "duration" {
			set := f.Value.Set
			f.Value = setter{f.Value, func(text string) error {
				if _, err := strconv.ParseFloat(text, 64); err == nil {
					text += "s"
				}
				return set(text)
			}}
		}
	})
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if known[name] {
			return pflag.NormalizedName(name)
		}
		long := ""
		for k := range known {
			if len(name) < 3 || !strings.HasPrefix(k, name) {
				continue
			}
			if long != "" {
				return pflag.NormalizedName(name) // it may be either
			}
			long = k
		}
		if long != "" {
			return pflag.NormalizedName(long)
		}
		return pflag.NormalizedName(name)
	})
}

// looksLikeID tells whether name may be the first digits of a commit's id.
func looksLikeID(name string) bool {
	return len(name) >= 4 && len(name) <= 40 && strings.Trim(strings.ToLower(name), "0123456789abcdef") == ""
}

// expandRevision returns the full id of a commit: what looks like the digits of one is
// looked for in the repository r, anything else (HEAD, a branch, HEAD~1) in the
// clone that is the current directory.
func expandRevision(ctx context.Context, env *Env, r *git.Remote, name string) (string, error) {
	if looksLikeID(name) {
		return r.Expand(ctx, name)
	}
	sha, err := localCommit(ctx, env, name)
	if err != nil {
		return "", fmt.Errorf("%q is no commit id (4 to 40 hex digits), nor a revision here: %w", name, err)
	}
	return sha, nil
}
