//go:build linux

package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/cli/internal/demo"
)

// newDemo is what "make demo" runs.
func newDemo(env *Env) *cobra.Command {
	var dir, remove string
	var down bool
	cmd := &cobra.Command{
		Use:    "demo [--dir DIR]",
		Short:  "Deploy the example service twice in a playground, the second time under load",
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if down {
				return playgroundDown(cmd.Context(), env, "demo", dir)
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			if remove == "" {
				remove = "paasta demo --down --dir " + dir
			}
			d := demo.Demo{Dir: dir, Binary: binary, Remove: remove, Out: env.Out}
			return d.Run(cmd.Context())
		},
	}
	playgroundDirFlag(cmd, &dir)
	cmd.Flags().StringVar(&remove, "remove-with", "", "say that this `COMMAND` removes it")
	cmd.Flags().BoolVar(&down, "down", false, "remove it")
	return cmd
}
