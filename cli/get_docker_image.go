package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/command"
)

func newGetDockerImage(env *Env) *cobra.Command {
	var service, group, gitURL, soaDir string
	cmd := &cobra.Command{
		Use:   "get-docker-image -s SERVICE -l GROUP",
		Short: "Print the image that is marked for a deploy group",
		Long: `Print the full name of the image that is marked for deployment in a deploy group,
as the service's repository says now. Exits 1 if there is none.`,
		Example: `  paasta get-docker-image -s web -l prod.main
  docker pull "$(paasta get-docker-image -s web -l prod.main)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := env.soaDir(soaDir)
			if err != nil {
				return err
			}
			s, err := env.loadService(dir, serviceName(service))
			if err != nil {
				return err
			}
			if group == "" {
				return usagef("--deploy-group is required")
			}
			r, err := env.remote(s, gitURL)
			if err != nil {
				return err
			}
			log, err := tagLog(cmd.Context(), r)
			if err != nil {
				return err
			}
			latest, ok := log.Latest(group)
			if !ok {
				if err := checkGroup(s, group); err != nil {
					return err
				}
				return command.WithHint(fmt.Errorf("there is no %s docker_image for %s: has it been deployed yet?", s.Name, group),
					fmt.Sprintf("paasta mark-for-deployment -s %s -l %s -c COMMIT", s.Name, group))
			}
			_, ref, err := env.imageOf(s, latest.SHA)
			if err != nil {
				return err
			}
			env.printf("%s\n", ref)
			return nil
		},
	}
	serviceFlag(cmd, env, &service)
	deployGroupFlag(cmd, env, &group)
	cmd.Flags().StringVarP(&group, "instance", "i", "", "the same as --deploy-group")
	_ = cmd.Flags().MarkHidden("instance") // the flag is there: it was added above
	gitURLFlag(cmd, &gitURL)
	soaDirFlag(cmd, &soaDir)
	return cmd
}
