package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A completion answers what may stand where the cursor is. It must not fail
// aloud: the shell would print it into the line that is being typed.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

func completeServices(env *Env) completion {
	return completeNames(func(cmd *cobra.Command) []string {
		dir, err := env.soaDir(flagText(cmd, "soa-dir"))
		if err != nil {
			return nil
		}
		names, _ := soaconfig.Names(dir)
		return names
	})
}

func completeInstances(env *Env) completion {
	return completeNames(func(cmd *cobra.Command) []string {
		if s, ok := typedService(cmd, env); ok {
			return instancesOf(s, typedClusters(cmd))
		}
		return nil
	})
}

func completeDeployGroups(env *Env) completion {
	return completeNames(func(cmd *cobra.Command) []string {
		if s, ok := typedService(cmd, env); ok {
			return deployGroupsOf(s)
		}
		return nil
	})
}

func completeClusters(env *Env) completion {
	return completeNames(func(cmd *cobra.Command) []string {
		if s, ok := typedService(cmd, env); ok {
			return s.Clusters
		}
		c, _ := env.Config()
		return c.Clusters
	})
}

// completeNames completes with what names returns, which may be nothing.
func completeNames(names func(*cobra.Command) []string) completion {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return matching(typed, names(cmd))
	}
}

// typedService reads the service of the line that is being typed.
func typedService(cmd *cobra.Command, env *Env) (*soaconfig.Service, bool) {
	s, err := loadService(env, flagText(cmd, "soa-dir"), flagText(cmd, "service"))
	return s, err == nil
}

// typedClusters are the clusters of the line that is being typed, nil for all.
func typedClusters(cmd *cobra.Command) []string {
	for _, flag := range []string{"clusters", "cluster"} {
		if text := strings.Trim(flagText(cmd, flag), "[]"); text != "" {
			return strings.Split(text, ",")
		}
	}
	return nil
}

func flagText(cmd *cobra.Command, name string) string {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// matching returns the names that go on from what is typed, of which only the
// part behind the last comma counts.
func matching(typed string, names []string) ([]string, cobra.ShellCompDirective) {
	before, last := "", typed
	if i := strings.LastIndex(typed, ","); i >= 0 {
		before, last = typed[:i+1], typed[i+1:]
	}
	var found []string
	for _, n := range names {
		if strings.HasPrefix(n, last) && !slices.Contains(strings.Split(before, ","), n) {
			found = append(found, before+n)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func newCompletion(env *Env) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes paasta commands in your shell",
		Long: `Print a script for your shell (bash, zsh, fish or powershell) that completes
commands, flags, and the names of services, instances, clusters and deploy
groups, which are read from soa-configs.`,
		Example: `  source <(paasta completion bash)
  paasta completion zsh > "${fpath[1]}/_paasta"`,
		ValidArgs: shells,
		Args:      cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which SHELL? one of: %s%s", strings.Join(shells, ", "), yourShell())
			}
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.Out, true)
			case "zsh":
				return root.GenZshCompletion(env.Out)
			case "fish":
				return root.GenFishCompletion(env.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(env.Out)
			}
			return usagef("no shell %q%s: one of %s", args[0], didYouMean(args[0], shells), strings.Join(shells, ", "))
		},
	}
}

// yourShell says which shell the user has, if the environment tells.
func yourShell() string {
	shell := os.Getenv("SHELL")
	if shell == "" {
		return ""
	}
	return " (yours is " + shell[strings.LastIndex(shell, "/")+1:] + ")"
}
