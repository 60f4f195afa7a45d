package cli

import (
	"github.com/spf13/cobra"
)

func newDockerInspect(env *Env) *cobra.Command {
	var c taskChoice
	cmd := &cobra.Command{
		Use:   "docker-inspect -s SERVICE -i INSTANCE",
		Short: "Print what Docker knows of a task's container",
		Long: `Print, as JSON, what the Docker engine knows of the container of a running task.
The engine is the one of DOCKER_HOST; without that, the one on the task's host,
by ssh.`,
		Example: `  paasta docker-inspect -s web -i main
  paasta docker-inspect -s web -i main -H agent7 | jq .State`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := chooseTask(cmd.Context(), env, c, true)
			if err != nil {
				return err
			}
			defer t.engine.Close()
			text, err := t.engine.Inspect(cmd.Context(), t.container)
			if err != nil {
				return err
			}
			env.printf("%s", text)
			return nil
		},
	}
	c.flags(cmd, env)
	return cmd
}
