package marathon

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// metrics serves GET /metrics, in Dropwizard's shape as Marathon does.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	gauges := map[string]any{}
	gauge := func(name string, n int) { gauges[name] = map[string]int{"value": n} }
	err := s.do(r.Context(), func(m *core.Machine, now time.Time) {
		gauge("marathon.apps.active.gauge", len(m.Apps("/")))
		gauge("marathon.deployments.active.gauge", len(m.Deployments()))
		gauge("marathon.queue.size.gauge", len(m.Queue(now, false)))
		running, staged := 0, 0
		for _, t := range m.Tasks("") {
			switch t.State {
			case core.Running:
				running++
			case core.Staging, core.Starting:
				staged++
			}
		}
		gauge("marathon.instances.running.gauge", running)
		gauge("marathon.instances.staged.gauge", staged)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	empty := map[string]any{}
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may have gone
		"version": "4.0.0", "counters": empty, "gauges": gauges, "histograms": empty, "meters": empty, "timers": empty,
	})
}
