package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/task"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/command"
)

// A taskChoice is what the flags say about which task a command is about.
type taskChoice struct {
	service, instance, cluster, host, id, soaDir string
}

func (c *taskChoice) flags(cmd *cobra.Command, env *Env) {
	serviceFlag(cmd, env, &c.service)
	cmd.Flags().StringVarP(&c.instance, "instance", "i", "", "the `INSTANCE`")
	complete(cmd, "instance", completeInstances(env))
	cmd.Flags().StringVarP(&c.cluster, "cluster", "c", "", "in this `CLUSTER`; default: the system config's")
	complete(cmd, "cluster", completeClusters(env))
	cmd.Flags().StringVarP(&c.host, "host", "H", "", "the task on this `HOST`")
	cmd.Flags().StringVarP(&c.id, "mesos-id", "m", "", "the task with this `ID`, or one that contains it")
	soaDirFlag(cmd, &c.soaDir)
	require(cmd, "instance")
}

// A chosenTask is a task, its container, and the engine that runs it.
type chosenTask struct {
	api.Task
	engine    *task.Engine
	container string
}

// chooseTask asks the cluster for the tasks of the instance and finds the
// container of the one that the flags choose. When they leave a choice, one is
// taken, unless the command must not guess. The caller closes the engine.
func chooseTask(ctx context.Context, env *Env, c taskChoice, guess bool) (chosenTask, error) {
	s, err := loadService(env, c.soaDir, c.service)
	if err != nil {
		return chosenTask{}, err
	}
	cluster, err := clusterOrDefault(env, c.cluster)
	if err != nil {
		return chosenTask{}, err
	}
	client, err := env.API(cluster)
	if err != nil {
		return chosenTask{}, err
	}
	status, err := client.Status(ctx, s.Name, c.instance)
	if err != nil {
		return chosenTask{}, err
	}
	t, err := oneTask(status, c, guess, env.notef)
	if err != nil {
		return chosenTask{}, fmt.Errorf("%s.%s in %s: %w", s.Name, c.instance, cluster, err)
	}
	config, err := env.Config()
	if err != nil {
		return chosenTask{}, err
	}
	host := engineOf(t.Host, config.Hostname)
	engine, err := task.Dial(ctx, host)
	if err != nil {
		return chosenTask{}, err
	}
	id, err := engine.Find(ctx, s.Name, c.instance, t.ID)
	if err != nil {
		engine.Close()
		if errors.Is(err, task.ErrNone) {
			err = command.WithHint(err, fmt.Sprintf("the task runs on %s: DOCKER_HOST has to name the Docker engine there (ssh://%s), or no DOCKER_HOST at all", t.Host, t.Host))
		}
		return chosenTask{}, err
	}
	return chosenTask{t, engine, id}, nil
}

// engineOf is where the engine of a task's host is: DOCKER_HOST decides, if
// there is one; otherwise it is the one here, or the one there by ssh.
func engineOf(host, here string) string {
	name, err := os.Hostname()
	if os.Getenv("DOCKER_HOST") != "" || host == here || err == nil && host == name || host == "localhost" || strings.HasPrefix(host, "127.") {
		return ""
	}
	return "ssh://" + host
}

// oneTask picks the task that the flags choose among those that run.
func oneTask(status []api.InstanceStatus, c taskChoice, guess bool, note func(string, ...any)) (api.Task, error) {
	var running, tasks []api.Task
	for _, s := range status {
		for _, v := range s.Versions {
			for _, t := range v.Tasks {
				if t.State == "TASK_RUNNING" {
					running = append(running, t)
				}
			}
		}
	}
	slices.SortFunc(running, func(a, b api.Task) int { return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.ID, b.ID)) })
	var choices []string
	for _, t := range running {
		choices = append(choices, fmt.Sprintf("%s on %s", taskUUID(t.ID), t.Host))
		if (c.host == "" || t.Host == c.host) && strings.Contains(t.ID, c.id) {
			tasks = append(tasks, t)
		}
	}
	switch {
	case len(running) == 0:
		return api.Task{}, command.WithHint(errors.New("no task runs"), "paasta status -v says why")
	case len(tasks) == 0:
		return api.Task{}, command.WithHint(errors.New("no running task is on that host or has that id"), "one of: "+strings.Join(choices, ", "))
	case len(tasks) > 1 && !guess:
		return api.Task{}, command.WithHint(fmt.Errorf("%d tasks run", len(tasks)), "choose with --mesos-id: "+strings.Join(choices, ", "))
	case len(tasks) > 1:
		note("%d tasks run; taking %s on %s (--host and --mesos-id choose)", len(tasks), taskUUID(tasks[0].ID), tasks[0].Host)
	}
	return tasks[0], nil
}
