package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/command"
)

// endWithin is what a command has for its end after it was told to stop.
const endWithin = 10 * time.Second

func newTestDepsRun(env *Env) *cobra.Command {
	var f testDepsFlags
	var inside environment.Command
	var inContainer bool
	cmd := &cobra.Command{
		Use:   "run [-s SERVICE] [--in-container] -- CMD...",
		Short: "Run a command with an environment of its own",
		Long: `Start an environment, run a command, remove the environment whatever happened,
and exit with the command's code. On the host the command finds the dependencies
by environment variables (USERS_HOST, USERS_PORT, USERS_URL); with --in-container
it runs in a container of the service's own image, where they answer to their
names and at 169.254.255.254:<proxy_port>, too.`,
		Example: `  paasta test-deps run -s web -- go test ./itest
  paasta test-deps run -s web --in-container --image "$(DOCKER_TAG)" -- /web check`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no command given: write it behind --")
			}
			inside.Args = args
			if inside.Image = cmp.Or(inside.Image, os.Getenv("DOCKER_TAG")); inContainer && inside.Image == "" {
				return usagef("--in-container needs the service's image: give --image, or set DOCKER_TAG as paasta itest does")
			}
			return testDepsRun(cmd.Context(), env, f, inContainer, inside)
		},
	}
	f.add(cmd, env)
	cmd.Flags().BoolVar(&inContainer, "in-container", false, "run it in a container of the environment")
	cmd.Flags().StringVar(&inside.Image, "image", "", "the `IMAGE` of that container; default: $DOCKER_TAG")
	cmd.Flags().StringArrayVarP(&inside.Env, "env", "e", nil, "set `KEY=VALUE` for the command")
	cmd.Flags().StringArrayVar(&inside.Volumes, "volume", nil, "mount `HOST:CONTAINER[:ro]` into that container")
	return cmd
}

func testDepsRun(ctx context.Context, env *Env, f testDepsFlags, inContainer bool, c environment.Command) error {
	if _, err := exec.LookPath(c.Args[0]); err != nil && !inContainer { // before anything is started
		return command.WithHint(fmt.Errorf("run %s: %w", c.Args[0], err), "the program's full path; or --in-container, if it is one of the service's image")
	}
	e, err := environment.Dial(ctx, "")
	if err != nil {
		return err
	}
	defer e.Close()
	through, leave, err := intoPlayground(env, e.Address())
	if err != nil {
		return err
	}
	defer leave()
	f.through, f.inside = through, inContainer
	x, err := f.up(ctx, env, e, true)
	if err != nil {
		return err
	}
	var code int
	if inContainer {
		c.Out, c.Err = env.Out, env.Err
		code, err = x.Run(ctx, c)
	} else {
		code, err = runOnHost(ctx, env, c.Args, append(x.Variables(), c.Env...))
	}
	if refused, asked := x.Refused(context.WithoutCancel(ctx)); asked == nil {
		for _, r := range refused {
			env.notef("paasta: warning: %s", r)
		}
	}
	if down := x.Down(ctx); down != nil {
		err = errors.Join(err, down)
	}
	if err == nil && code != 0 {
		return command.ExitError{Code: code}
	}
	return err
}

// runOnHost runs a command as a child and returns its exit code, 128 and the
// signal's number when one ended it.
func runOnHost(ctx context.Context, env *Env, args, variables []string) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = env.In, env.Out, env.Err
	cmd.Env = append(os.Environ(), variables...)
	// Ctrl-C reaches it from the terminal, too, since it is in our process group.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endWithin
	err := cmd.Run()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, fmt.Errorf("run %s: %w", args[0], err)
}
