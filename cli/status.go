package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/printable"
)

type statusFlags struct {
	selection
	verbose int
	json    bool
}

func newStatus(env *Env) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status [-s SERVICE] [-i INSTANCES] [-c CLUSTERS] [-v]",
		Short: "Show how a service's instances are, and what a bounce waits for",
		Long: `Show, for each instance of a service, which commit should run and which runs,
how many tasks are up and in the load balancers, and what a bounce waits for.
Exits with 3 if any instance does not run what was asked for, fully up.

In a pipe, and without -v, it prints one line an instance: cluster, service,
instance, "ok" or "not ok", deploy status, commit, running, healthy and expected
tasks, state of the bounce, what it waits for.`,
		Example: `  paasta status -s web
  paasta status -s web -i main -vv
  paasta status -s web --json | jq '.[] | select(.ok | not) | .instance'`,
		RunE: func(cmd *cobra.Command, _ []string) error { return status(cmd.Context(), env, f) },
	}
	f.flags(cmd, env)
	cmd.Flags().CountVarP(&f.verbose, "verbose", "v", "show tasks, backends and steps too; -vv: the last 10 lines of each task's output; -vvv: the last 100")
	jsonFlag(cmd, &f.json)
	return cmd
}

func status(ctx context.Context, env *Env, f statusFlags) error {
	chosen, err := selectInstances(ctx, env, f.selection)
	if err != nil {
		return err
	}
	all, err := askStatuses(ctx, env, chosen)
	if len(all) == 0 && err != nil {
		return err
	}
	switch {
	case f.json:
		if err := env.printJSON(all); err != nil {
			return err
		}
	case !env.TTY && f.verbose == 0:
		printStatusLines(env, all)
	default:
		p, failed := newStatusPrinter(env, f.verbose)
		if failed != nil {
			return failed
		}
		p.print(ctx, all)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(s api.InstanceStatus) bool { return !s.OK }) {
		return command.ErrNotHealthy
	}
	return nil
}

// askStatuses asks the clusters of the chosen instances, all at once. What is
// answered is returned beside the error of those that do not answer.
func askStatuses(ctx context.Context, env *Env, chosen []selected) ([]api.InstanceStatus, error) {
	type question struct{ cluster, service string }
	asked := map[question][]string{}
	var questions []question
	for _, i := range chosen {
		q := question{i.cluster, i.service.Name}
		if asked[q] == nil {
			questions = append(questions, q)
		}
		asked[q] = append(asked[q], i.instance)
	}
	answers := make([][]api.InstanceStatus, len(questions))
	errs := make([]error, len(questions))
	room := make(chan struct{}, 20)
	var wg sync.WaitGroup
	for n, q := range questions {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			client, err := env.API(q.cluster)
			if err != nil {
				errs[n] = err
				return
			}
			answers[n], errs[n] = ask(ctx, client, q.service, asked[q])
			if errs[n] != nil {
				errs[n] = fmt.Errorf("status of %s in %s: %w", q.service, q.cluster, errs[n])
			}
		})
	}
	wg.Wait()
	all := []api.InstanceStatus{}
	for _, a := range answers {
		all = append(all, a...)
	}
	return all, joined(errs)
}

// ask asks one API about instances of a service.
func ask(ctx context.Context, client *api.Client, service string, instances []string) ([]api.InstanceStatus, error) {
	if len(instances) == 1 {
		return client.Status(ctx, service, instances[0])
	}
	all, err := client.Status(ctx, service, "")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s api.InstanceStatus) bool { return !slices.Contains(instances, s.Instance) })
	for _, name := range instances {
		if !slices.ContainsFunc(all, func(s api.InstanceStatus) bool { return s.Instance == name }) {
			err = errors.Join(err, fmt.Errorf("%s: the API does not know instance %s; its soa-configs may be older than yours", client.URL(), name))
		}
	}
	return all, err
}

// joined joins errors, and keeps the hint of the first that has one.
func joined(errs []error) error {
	var first error
	same := map[string]bool{}
	var rest []error
	for _, err := range errs {
		if err == nil || same[err.Error()] {
			continue
		}
		same[err.Error()] = true
		if first == nil {
			first = err
		}
		rest = append(rest, err)
	}
	if len(rest) < 2 {
		return first
	}
	err := errors.Join(rest...)
	for _, e := range rest {
		if h, ok := errors.AsType[command.HintedError](e); ok {
			return command.WithHint(err, h.Hint)
		}
	}
	return err
}

// printStatusLines prints one line an instance, for a pipe.
func printStatusLines(env *Env, all []api.InstanceStatus) {
	t := newTable(env)
	for _, s := range all {
		ok, state, why := "ok", "-", "-"
		if !s.OK {
			ok = "not ok"
		}
		if s.Bounce != nil {
			state, why = s.Bounce.State, orDash(oneLine(s.Bounce.Why))
		}
		t.row(s.Cluster, s.Service, s.Instance, ok, s.DeployStatus, orDash(s.GitSHA),
			fmt.Sprint(s.Running), fmt.Sprint(s.Healthy), fmt.Sprint(s.Expected), state, why)
	}
	t.print()
	for _, s := range all {
		for _, n := range s.Notes {
			env.notef("paasta: %s.%s in %s: %s", s.Service, s.Instance, s.Cluster, n)
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// oneLine keeps a text from breaking a table, and a terminal.
func oneLine(s string) string { return printable.Text(strings.Join(strings.Fields(s), " ")) }
