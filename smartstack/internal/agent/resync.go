package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// check doubts the next part of what runs, and says when it was the last one.
func (a *Agent) check() (last bool) {
	h := &a.hap
	if h.checked == 0 {
		h.checks = slices.Sorted(maps.Keys(h.running))
	}
	n := len(h.checks)
	for _, name := range h.checks[h.checked*n/checkParts : (h.checked+1)*n/checkParts] {
		h.doubts[name] = true
	}
	h.checked = (h.checked + 1) % checkParts
	return h.checked == 0
}

// resync reads what HAProxy really has where that is in doubt; what differs is
// set right.
func (a *Agent) resync(ctx context.Context) {
	var backends []string
	for name := range a.hap.doubts {
		for _, b := range a.hap.service(name).Backends {
			backends = append(backends, b.Name)
		}
	}
	doubts := a.hap.doubts
	a.hap.doubts = map[string]bool{}
	if len(backends) == 0 {
		return
	}
	states, err := a.runtime.ServerStates(ctx, a.hap.pid, backends...)
	if err != nil {
		a.runtime.CloseIdle()                                 // perhaps to a process that does not serve any more
		a.log.Warn("read the servers of HAProxy", "err", err) // the next check, or what does not work again, leads here
		return
	}
	byBackend := make(map[string][]haproxy.ServerState, len(backends))
	for len(states) > 0 { // those of a backend come together
		n := 1
		for n < len(states) && states[n].Backend == states[0].Backend {
			n++
		}
		byBackend[states[0].Backend], states = states[:n], states[n:]
	}
	for name := range doubts {
		run := a.hap.running[name]
		if run == nil {
			continue
		}
		service := run.Service
		service.Backends = slices.Clone(service.Backends)
		for i, b := range service.Backends {
			servers := fromStates(b.Servers, byBackend[b.Name])
			service.Backends[i].Servers = servers
			for _, s := range servers {
				key := b.Name + "/" + s.Name
				if _, known := a.hap.leaving[key]; s.Leaving && !known {
					a.hap.leaving[key] = time.Now()
				}
			}
		}
		if run.With(service).Equal(run) {
			continue
		}
		a.runs(name, service)
		if r := a.registrations[name]; r != nil {
			r.changed = true
			a.stir(r)
			a.log.Warn("HAProxy had other servers than it should", "registration", name)
		}
	}
}

// fromStates returns the servers that HAProxy says it has; known says what it
// does not tell.
func fromStates(known []haproxy.Server, states []haproxy.ServerState) []haproxy.Server {
	options := make(map[string]haproxy.Options, len(known))
	for _, s := range known {
		options[s.Name] = s.Options
	}
	servers := make([]haproxy.Server, 0, len(states))
	for _, s := range states {
		server := haproxy.Server{Name: s.Name, Addr: s.Addr, ID: s.ID, Weight: s.Weight, Leaving: s.Maint, Options: options[s.Name]}
		if s.Drain {
			server.Weight = 0
		}
		servers = append(servers, server)
	}
	return servers
}
