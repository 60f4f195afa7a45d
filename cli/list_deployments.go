package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

func newListDeployments(env *Env) *cobra.Command {
	var service, gitURL, soaDir string
	var groups []string
	var lines int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list-deployments [-s SERVICE] [-l GROUPS]",
		Short: "List what was deployed when",
		Long: `List the commits that were marked for deployment, newest first, also in deploy
groups that soa-configs do not use any more, and whether they ran: how long, or
why they were never fully deployed. In a pipe: time, deploy group, commit,
"current" or "-", and what came of it or "-".`,
		Example: `  paasta list-deployments -s web
  paasta list-deployments -s web -l prod.main -n 0 --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadService(env, soaDir, service)
			if err != nil {
				return err
			}
			_, log, err := readTags(cmd.Context(), env, s, gitURL)
			if err != nil {
				return err
			}
			known := append(log.Groups(), deployGroupsOf(s)...)
			slices.Sort(known)
			known = slices.Compact(known)
			if err := checkNames("deploy group", groups, s.Name, known); err != nil {
				return err
			}
			if len(groups) == 0 {
				groups = known
			}
			return printDeploys(env, withOutcomes(deploys(log, groups, lines), askOutcomes(cmd.Context(), env, s, groups)), asJSON)
		},
	}
	serviceFlag(cmd, env, &service)
	deployGroupsFlag(cmd, env, &groups)
	gitURLFlag(cmd, &gitURL)
	soaDirFlag(cmd, &soaDir)
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "show the latest `N`; 0 for all")
	jsonFlag(cmd, &asJSON)
	return cmd
}
