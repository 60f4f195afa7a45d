package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/task"
	"github.com/gopaasta/paasta/paasta/command"
)

func newDockerExec(env *Env) *cobra.Command {
	var c taskChoice
	cmd := &cobra.Command{
		Use:   "docker-exec -s SERVICE -i INSTANCE [-- COMMAND [ARG]…]",
		Short: "Run a command in the container of a task",
		Long: `Run a command, by default a shell, in the container of a running task. The
Docker engine is the one of DOCKER_HOST; without that, the one on the task's
host, by ssh. The exit code is the command's.`,
		Example: `  paasta docker-exec -s web -i main
  paasta docker-exec -s web -i main -c norcal-prod -- cat /proc/loadavg`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return dockerExec(cmd.Context(), env, c, args) },
	}
	c.flags(cmd, env)
	return cmd
}

func dockerExec(ctx context.Context, env *Env, c taskChoice, args []string) error {
	session := task.Session{Argv: args, TTY: env.InTTY && env.TTY, In: env.In, Out: env.Out, Err: env.Err}
	if len(args) == 0 {
		session.Argv = task.Shell
	}
	t, err := chooseTask(ctx, env, c, true)
	if err != nil {
		return err
	}
	defer t.engine.Close()
	status, err := t.engine.Exec(ctx, t.container, session)
	if err == nil && status != 0 {
		err = command.ExitError{Code: status}
	}
	return err
}
