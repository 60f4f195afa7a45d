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
	var keys, lines []string
	var commands []haproxy.Command
	for _, key := range slices.Sorted(maps.Keys(a.hap.leaving)) {
		backend, server, _ := strings.Cut(key, "/")
		run := a.hap.running[a.owner(backend)]
		if run == nil {
			delete(a.hap.leaving, key) // went with a reload
			continue
		}
		c := haproxy.Command{Op: haproxy.Delete, Backend: backend, Server: haproxy.Server{Name: server}}
		if now.Sub(a.hap.leaving[key]) > longestLeave(run.Service) {
			kick := haproxy.Command{Op: haproxy.Kick, Backend: backend, Server: c.Server}
			keys, commands, lines = append(keys, key), append(commands, kick), append(lines, kick.Lines()...)
		}
		keys, commands, lines = append(keys, key), append(commands, c), append(lines, c.Lines()...)
	}
	answers, err := a.runtime.Do(ctx, a.hap.pid, lines...)
	if err != nil {
		a.log.Warn("deleted servers", "err", err, "servers", strings.Join(keys, " "))
		return
	}
	for i, c := range commands { // each is one line
		if c.Op != haproxy.Delete || c.Refused(answers[i:i+1]) != nil {
			continue // it still has sessions
		}
		delete(a.hap.leaving, keys[i])
		name := a.owner(c.Backend)
		a.runs(name, haproxy.Applied(a.hap.service(name), commands[i:i+1]))
		if r := a.registrations[name]; r != nil && r.waiting > 0 {
			r.changed = true
			a.stir(r)
			a.hap.retryAt = now.Add(time.Millisecond)
		}
	}
}

// longestLeave is how long the sessions of a removed server may go on.
func longestLeave(s haproxy.Service) time.Duration {
	return min(max(2*s.TimeoutServer, s.TimeoutTunnel, 30*time.Second), 10*time.Minute)
}
