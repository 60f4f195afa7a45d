package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/command"
)

// securityCheckTimeout bounds the command, as PaaSTA does.
const securityCheckTimeout = time.Hour

func newSecurityCheck(env *Env) *cobra.Command {
	var service, commit, soaDir string
	cmd := &cobra.Command{
		Use:   "security-check -s SERVICE -c COMMIT",
		Short: "Run the organisation's security check of a commit",
		Long: `Run security_check_command of the system config with the service and the full
commit as its arguments. The exit code is the command's; 0 when none is set.`,
		Example: `  paasta security-check -s web -c "$(git rev-parse HEAD)"
  cd web && paasta security-check -s web -c HEAD`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadService(env, soaDir, service)
			if err != nil {
				return err
			}
			return securityCheck(cmd.Context(), env, s.Name, commit)
		},
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &soaDir)
	commitFlag(cmd, &commit)
	require(cmd, "commit")
	return cmd
}

func securityCheck(ctx context.Context, env *Env, service, commit string) error {
	c, err := env.Config()
	if err != nil {
		return err
	}
	words := strings.Fields(c.SecurityCheckCommand)
	if len(words) == 0 {
		env.notef("Nothing to be executed during the security-check step")
		return nil
	}
	sha, err := localCommit(ctx, env, commit)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, securityCheckTimeout, fmt.Errorf("not done after %s", securityCheckTimeout))
	defer cancel()
	check := exec.CommandContext(bounded, words[0], append(words[1:], service, sha)...)
	check.Stdout, check.Stderr = env.Out, env.Err
	check.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	check.Cancel = func() error { return unix.Kill(-check.Process.Pid, unix.SIGTERM) }
	check.WaitDelay = 5 * time.Second
	err = check.Run()
	var exit *exec.ExitError
	switch {
	case bounded.Err() != nil:
		return fmt.Errorf("%s: %w", words[0], context.Cause(bounded))
	case errors.As(err, &exit):
		env.notef("paasta: %s: %v", words[0], err)
		return command.ExitError{Code: exit.ExitCode()}
	case err != nil:
		return command.WithHint(fmt.Errorf("run the security check: %w", err), "security_check_command in the system config names a program that is here")
	}
	return nil
}
