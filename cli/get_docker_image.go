package cli

import (
	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func newGetDockerImage(env *Env) *cobra.Command {
	return newMarked(env, &cobra.Command{
		Use:   "get-docker-image -s SERVICE -l GROUP",
		Short: "Print the image that is marked for a deploy group",
		Long: `Print the full name of the image that is marked for deployment in a deploy group,
as the service's repository says now. Exits 1 if there is none.`,
		Example: `  paasta get-docker-image -s web -l prod.main
  docker pull "$(paasta get-docker-image -s web -l prod.main)"`,
	}, "there is no %s docker_image for %s: has it been deployed yet?", func(s *soaconfig.Service, sha string) (string, error) {
		_, ref, err := imageOf(env, s, sha)
		return ref, err
	})
}
