package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/git"
)

// What scripts that were written for PaaSTA type, and ours does not show.

// otherNames are PaaSTA's long forms of flags, where ours are called otherwise.
var otherNames = map[string][]string{
	"after":             {"from"},
	"clusterinstance":   {"deploy-group"},
	"raw-mode":          {"raw"},
	"all-deploy-groups": {"all"},
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
			f.Value = timeOrSeconds{f.Value}
		}
	})
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if known[name] {
			return pflag.NormalizedName(name)
		}
		for _, other := range otherNames[name] {
			if known[other] {
				return pflag.NormalizedName(other)
			}
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

// timeOrSeconds is a duration that may be a number of seconds.
type timeOrSeconds struct{ pflag.Value }

func (v timeOrSeconds) Set(text string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	return v.Value.Set(text)
}

// seconds is a number of seconds that may be a time with a unit, such as 10m.
type seconds int

func (s *seconds) String() string { return strconv.Itoa(int(*s)) }
func (s *seconds) Type() string   { return "seconds" }

func (s *seconds) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		d, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		n = int(math.Ceil(d.Seconds()))
	}
	*s = seconds(n)
	return nil
}

// secondsFlag adds a flag of seconds whose default is in f.
func secondsFlag(cmd *cobra.Command, f *int, name, short, usage string) {
	cmd.Flags().VarP((*seconds)(f), name, short, usage)
}

// verboseFlag adds PaaSTA's -v to a command that says all that it can anyway.
func verboseFlag(cmd *cobra.Command) {
	cmd.Flags().CountP("verbose", "v", "say more; all is said without it")
	_ = cmd.Flags().MarkHidden("verbose") // the flag is there: it was added above
}

// required is an error that names all flags that have no value; flags are pairs
// of a name and its value.
func required(flags ...string) error {
	var missing []string
	for i := 0; i+1 < len(flags); i += 2 {
		if flags[i+1] == "" {
			missing = append(missing, "--"+flags[i])
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return usagef("%s is required", missing[0])
	}
	return usagef("%s and %s are required", strings.Join(missing[:len(missing)-1], ", "), missing[len(missing)-1])
}

// looksLikeID tells whether name may be the first digits of a commit's id.
func looksLikeID(name string) bool {
	return len(name) >= 4 && len(name) <= 40 && strings.Trim(strings.ToLower(name), "0123456789abcdef") == ""
}

// revision returns the full id of a commit: what looks like the digits of one is
// looked for in the repository r, anything else (HEAD, a branch, HEAD~1) in the
// clone that is the current directory.
func (env *Env) revision(ctx context.Context, r *git.Remote, name string) (string, error) {
	if looksLikeID(name) {
		return r.Expand(ctx, name)
	}
	sha, err := env.commit(ctx, name)
	if err != nil {
		return "", fmt.Errorf("%q is no commit id (4 to 40 hex digits), nor a revision here: %w", name, err)
	}
	return sha, nil
}
