package cli

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta/command"
)

func newCookImage(env *Env) *cobra.Command {
	var service, commit, soaDir string
	cmd := &cobra.Command{
		Use:   "cook-image [-s SERVICE] [-c COMMIT]",
		Short: "Build a service's image for trying it out",
		Long: `Run "make cook-image" in the current directory, the service's repository, with
DOCKER_TAG=paasta-cook-image-SERVICE-USER, or the DOCKER_TAG of your environment;
with a commit, the name that its image is deployed by, as "paasta itest" builds it.
The exit code is make's; 1 when there is no such target, 2 on Ctrl-C.`,
		Example: `  paasta cook-image -s web
  cd web && paasta cook-image`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadService(env, soaDir, service)
			if err != nil {
				return err
			}
			tag := cmp.Or(os.Getenv("DOCKER_TAG"), "paasta-cook-image-"+s.Name+"-"+userName())
			if commit != "" {
				sha, err := localCommit(cmd.Context(), env, commit)
				if err != nil {
					return err
				}
				if _, tag, err = imageOf(env, s, sha); err != nil {
					return err
				}
			}
			err = runTarget(cmd.Context(), env, "cook-image", tag)
			if err != nil && cmd.Context().Err() != nil && !errors.Is(err, image.ErrNoTarget) {
				env.notef("paasta: interrupted")
				return command.ExitError{Code: exitUsage} // 2, as in PaaSTA
			}
			return err
		},
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &soaDir)
	commitFlag(cmd, &commit)
	return cmd
}
