package cli

import (
	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func newGetLatestDeployment(env *Env) *cobra.Command {
	cmd := newMarked(env, &cobra.Command{
		Use:   "get-latest-deployment -s SERVICE -l GROUP",
		Short: "Print the commit that is marked for a deploy group",
		Long: `Print the full id of the commit that is marked for deployment in a deploy group,
as its repository says now. Exits 1 if there is none.`,
		Example: `  paasta get-latest-deployment -s web -l prod.main
  git diff "$(paasta get-latest-deployment -s web -l prod.main)" HEAD`,
	}, "a deployment could not be found for %[2]s in %[1]s", func(_ *soaconfig.Service, sha string) (string, error) {
		return sha, nil
	})
	cmd.Flags().Bool("sha-only", false, "print the commit alone: this is the default")
	cmd.MarkFlagsMutuallyExclusive("sha-only", "json")
	return cmd
}
