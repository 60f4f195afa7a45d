package cli

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta/command"
)

func newCookImage(env *Env) *cobra.Command {
	var service, soaDir string
	cmd := &cobra.Command{
		Use:   "cook-image [-s SERVICE]",
		Short: "Build a service's image for trying it out",
		Long: `Run "make cook-image" in the current directory, the service's repository, with
DOCKER_TAG=paasta-cook-image-SERVICE-USER, or the DOCKER_TAG of your environment.
The exit code is make's; 1 when there is no such target, 2 on Ctrl-C.`,
		Example: `  paasta cook-image -s web
  cd web && paasta cook-image`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := env.soaDir(soaDir)
			if err != nil {
				return err
			}
			name, err := env.service(dir, service)
			if err != nil {
				return err
			}
			tag := os.Getenv("DOCKER_TAG")
			if tag == "" {
				tag = "paasta-cook-image-" + name + "-" + userName()
			}
			err = env.runTarget(cmd.Context(), "cook-image", tag)
			if err != nil && cmd.Context().Err() != nil && !errors.Is(err, image.ErrNoTarget) {
				env.notef("paasta: interrupted")
				return command.ExitError{Code: exitUsage} // 2, as in PaaSTA
			}
			return err
		},
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &soaDir)
	return cmd
}
