package cli

import "github.com/spf13/cobra"

// commands are the commands of this package, in the order of the help. A new
// command is one file with one newX and one line here.
var commands = []func(*Env) *cobra.Command{}

func newRoot(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:           "paasta",
		Short:         "Deploy services and see how they are",
		Version:       env.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	for _, newCommand := range commands {
		root.AddCommand(newCommand(env))
	}
	return root
}
