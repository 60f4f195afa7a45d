package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta/command"
)

func newItest(env *Env) *cobra.Command {
	var service, commit, soaDir string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "itest [-s SERVICE] [-c COMMIT]",
		Short: "Build and test a service's image",
		Long: `Run "make itest" in the current directory, the service's repository at that
commit, with DOCKER_TAG set to the name that the image will be deployed by, and
see that it built an image of that name.`,
		Example: `  paasta itest -s web -c "$(git rev-parse HEAD)"
  cd web && paasta itest`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return itest(cmd.Context(), env, service, commit, soaDir, timeout)
		},
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &soaDir)
	cmd.Flags().StringVarP(&commit, "commit", "c", "", "the `COMMIT` that is checked out; default: HEAD")
	timeoutFlag(cmd, &timeout, "", "give up after")
	return cmd
}

func itest(ctx context.Context, env *Env, service, commit, soaDir string, timeout time.Duration) error {
	s, err := loadService(env, soaDir, service)
	if err != nil {
		return err
	}
	sha, err := localCommit(ctx, env, commit)
	if err != nil {
		return err
	}
	if head, err := localCommit(ctx, env, ""); err == nil && head != sha {
		env.notef("paasta: warning: %s is checked out here, not %s", short(head), short(sha))
	}
	_, ref, err := imageOf(env, s, sha)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %s", timeout))
	defer cancel()
	if err := runTarget(bounded, env, "itest", ref); err != nil {
		return err
	}
	engine, err := image.Dial(ctx)
	if err != nil {
		return fmt.Errorf("look for image %s: %w", ref, err)
	}
	defer engine.Close()
	has, err := engine.Has(ctx, ref)
	if err == nil && !has {
		err = command.WithHint(fmt.Errorf("make itest built no image called %s", ref), `the target has to build with --tag "$(DOCKER_TAG)"`)
	}
	if err != nil {
		return err
	}
	env.notef("passed: %s", ref)
	return nil
}
