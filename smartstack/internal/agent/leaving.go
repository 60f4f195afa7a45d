package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// reap deletes servers that take no traffic any more once their sessions are
// gone, or have had time enough.
func (a *Agent) reap(ctx context.Context, now time.Time) {
	if len(a.hap.leaving) == 0 || now.Before(a.hap.reapAt) {
		return
	}
	a.hap.reapAt = now.Add(reapEvery)
	for _, key := range slices.Sorted(maps.Keys(a.hap.leaving)) {
		backend, server, _ := strings.Cut(key, "/")
		name := a.owner(backend)
		run, ok := a.hap.running[name]
		if !ok {
			delete(a.hap.leaving, key) // went with a reload
			continue
		}
		c := haproxy.Command{Op: haproxy.Delete, Backend: backend, Server: haproxy.Server{Name: server}}
		lines := c.Lines()
		if now.Sub(a.hap.leaving[key]) > longestLeave(run.Service) {
			kick := haproxy.Command{Op: haproxy.Kick, Backend: backend, Server: c.Server}
			lines = append(kick.Lines(), lines...)
		}
		answers, err := a.runtime.Do(ctx, a.hap.pid, lines...)
		if err != nil {
			a.log.Warn("deleted a server", "err", err, "backend", backend, "server", server)
			return
		}
		if err := c.Refused(answers[len(answers)-1:]); err != nil {
			continue // it still has sessions
		}
		delete(a.hap.leaving, key)
		a.hap.running[name] = haproxy.RenderService(haproxy.Applied(run.Service, []haproxy.Command{c}))
		if r := a.registrations[name]; r != nil && r.waiting > 0 {
			r.changed = true
			a.hap.retryAt = now.Add(time.Millisecond)
		}
	}
}

// longestLeave is how long the sessions of a removed server may go on.
func longestLeave(s haproxy.Service) time.Duration {
	return min(max(2*s.TimeoutServer, 30*time.Second), 10*time.Minute)
}
