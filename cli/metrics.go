package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/traffic"
)

type metricsFlags struct {
	soaDir, service string
	clusters        []string
	endpoint        string
	window          time.Duration
	json            bool
}

func newMetrics(env *Env) *cobra.Command {
	var f metricsFlags
	cmd := &cobra.Command{
		Use:   "metrics [-s SERVICE] [-c CLUSTERS] [--window DURATION] [--endpoint TEXT]",
		Short: "Show a service's rate, errors and latency, who calls it, and what a new version changed",
		Long: `Show what the agents of all hosts counted of a service's requests: how many
requests a second each endpoint gets and how long they take; whether all backends
are slow, or one; who calls what; which other service it waits for most; and
whether the newest version changed latency or errors against the one before.

Latencies are what callers see. A comparison is only called worse or better when
there are enough requests to be sure; otherwise it says how many it takes.

In a pipe each line begins with what it is about: endpoint, backend, caller,
downstream, version, task.`,
		Example: `  paasta metrics -s web
  paasta metrics -s web --endpoint /old/path     # who still calls it?
  paasta metrics -s web --window 1m --json | jq '.[].versions'`,
		RunE: func(cmd *cobra.Command, _ []string) error { return metrics(cmd.Context(), env, f) },
	}
	serviceFlag(cmd, env, &f.service)
	clustersFlag(cmd, env, &f.clusters)
	soaDirFlag(cmd, &f.soaDir)
	cmd.Flags().DurationVar(&f.window, "window", 5*time.Minute, "how far back to look, a `DURATION` of up to 15m")
	cmd.Flags().StringVar(&f.endpoint, "endpoint", "", "only endpoints that contain this `TEXT`, e.g. /old/path")
	jsonFlag(cmd, &f.json)
	return cmd
}

func metrics(ctx context.Context, env *Env, f metricsFlags) error {
	if f.window <= 0 || f.window > 15*time.Minute {
		return usagef("--window: is %s, want up to 15m", f.window)
	}
	svc, err := loadService(env, f.soaDir, f.service)
	if err != nil {
		return err
	}
	clusters := svc.Clusters
	if len(clusters) == 0 { // not on Marathon, but agents may count it all the same
		cluster, err := clusterOrDefault(env, "")
		if err != nil {
			return err
		}
		clusters = []string{cluster}
	}
	if len(f.clusters) > 0 {
		if err := checkNames("cluster", f.clusters, svc.Name, clusters); err != nil {
			return err
		}
		clusters = f.clusters
	}
	all := []api.ServiceMetrics{}
	var errs []error
	for _, cluster := range clusters {
		m, err := metricsOf(ctx, env, cluster, svc.Name, f.window)
		if err != nil {
			errs = append(errs, fmt.Errorf("metrics of %s in %s: %w", svc.Name, cluster, err))
			continue
		}
		only(&m, f.endpoint)
		all = append(all, m)
	}
	if len(all) == 0 {
		return joined(errs)
	}
	switch {
	case f.json:
		if err := env.printJSON(all); err != nil {
			return err
		}
	case env.TTY:
		for i, m := range all {
			if i > 0 {
				env.printf("\n")
			}
			printMetrics(env, m)
		}
	default:
		printMetricsLines(env, all)
	}
	return joined(errs)
}

func metricsOf(ctx context.Context, env *Env, cluster, service string, window time.Duration) (api.ServiceMetrics, error) {
	client, err := env.API(cluster)
	if err != nil {
		return api.ServiceMetrics{}, err
	}
	m, err := client.Metrics(ctx, service, window)
	if api.IsNotFound(err) {
		err = command.WithHint(err, "an API that is older than this paasta knows no metrics")
	}
	return m, err
}

// only leaves the endpoints that contain a text.
func only(m *api.ServiceMetrics, text string) {
	if text == "" {
		return
	}
	m.Endpoints = slices.DeleteFunc(m.Endpoints, func(e traffic.Endpoint) bool { return !strings.Contains(e.Endpoint, text) })
	m.Callers = slices.DeleteFunc(m.Callers, func(c traffic.Caller) bool { return !strings.Contains(c.Endpoint, text) })
	for i := range m.Versions {
		v := &m.Versions[i]
		v.Endpoints = slices.DeleteFunc(v.Endpoints, func(e traffic.EndpointCompared) bool { return !strings.Contains(e.Endpoint, text) })
	}
}
