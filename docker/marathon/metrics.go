package marathon

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// counters counts what happened since the start, by Marathon's name of it. Those
// that are there before anything happens are the keys of newCounters.
type counters map[string]int

func newCounters() counters {
	return counters{"deployments.counter": 0, "deployments.dismissed.counter": 0, "tasks.launched.counter": 0}
}

func (c counters) events(events []core.Event) {
	for _, e := range events {
		switch e.Type {
		case "group_change_success":
			c["deployments.counter"]++
		case "group_change_failed":
			if reason, _ := e.Fields["reason"].(string); strings.HasPrefix(reason, "Max number") {
				c["deployments.dismissed.counter"]++
			}
		case "status_update_event":
			state, _ := e.Fields["taskStatus"].(string)
			c["mesos.task-updates."+strings.ReplaceAll(strings.ToLower(state), "_", "-")+".counter"]++
		}
	}
}

// metrics serves GET /metrics, in Dropwizard's shape as Marathon does, and
// /metrics/prometheus, with the names of Marathon 1.7.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	var counted counters
	gauges := map[string]any{}
	err := s.do(r.Context(), func(m *core.Machine, now time.Time) {
		counted = maps.Clone(s.counters)
		root := m.Root()
		_, groups := root.Below("/")
		if !slices.Contains(groups, "/") {
			groups = append(groups, "/")
		}
		states := map[string]int{}
		for _, t := range m.Tasks("") {
			states[t.State]++
		}
		up := now.Sub(s.began).Seconds()
		gauges = map[string]any{
			"apps.active.gauge": len(root.Apps), "groups.active.gauge": len(groups), "pods.active.gauge": 0,
			"deployments.active.gauge":       len(m.Deployments()),
			"instances.running.gauge":        states[core.Running],
			"instances.staged.gauge":         states[core.Staging] + states[core.Starting],
			"instances.inflight-kills.gauge": states[core.Killing],
			"uptime.gauge.seconds":           up, "leadership.duration.gauge.seconds": up,
		}
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if strings.HasSuffix(strings.TrimRight(r.URL.Path, "/"), "/prometheus") {
		w.Header().Set("Content-Type", "text/plain")
		prometheus(w, "gauge", gauges)
		prometheus(w, "counter", counted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	empty := map[string]any{}
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may have gone
		"version": "4.0.0", "counters": keyed(counted, "count"), "gauges": keyed(gauges, "value"), "histograms": empty, "meters": empty, "timers": empty,
	})
}

func keyed[V any](values map[string]V, key string) map[string]any {
	out := map[string]any{}
	for name, v := range values {
		out["marathon."+name] = map[string]any{key: v}
	}
	return out
}

var noPrometheus = regexp.MustCompile("[^a-zA-Z0-9_]")

func prometheus[V any](w io.Writer, kind string, values map[string]V) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := noPrometheus.ReplaceAllString("marathon."+key, "_")
		fmt.Fprintf(w, "# TYPE %s %s\n%s %v\n\n", name, kind, name, values[key])
	}
}
