package cli

import (
	"time"

	"github.com/spf13/cobra"
)

func newDockerStop(env *Env) *cobra.Command {
	var c taskChoice
	var dryRun bool
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "docker-stop -s SERVICE -i INSTANCE [-m ID]",
		Short: "Stop the container of one task",
		Long: `Stop the container of a running task. It is not drained first, and Marathon
starts another task in its place: to stop an instance, use "paasta stop". When
more than one task runs, --mesos-id or --host has to choose.`,
		Example: `  paasta docker-stop -s web -i main -m 0a1b2c3d
  paasta docker-stop -s web -i main -H agent7 --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := chooseTask(cmd.Context(), env, c, false)
			if err != nil {
				return err
			}
			defer t.engine.Close()
			if dryRun {
				env.notef("Would stop %s on %s, container %s", t.ID, t.Host, t.container[:12])
				return nil
			}
			if err := t.engine.Stop(cmd.Context(), t.container, grace); err != nil {
				return err
			}
			env.notef("Stopped %s on %s; Marathon starts another one", t.ID, t.Host)
			return nil
		},
	}
	c.flags(cmd, env)
	cmd.Flags().DurationVarP(&grace, "time", "t", 10*time.Second, "`TIME` between the stop signal and SIGKILL: 1m, or a number of seconds")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be stopped")
	return cmd
}
