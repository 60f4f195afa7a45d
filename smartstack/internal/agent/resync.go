package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// resync reads what HAProxy really has; what differs is set right.
func (a *Agent) resync(ctx context.Context) {
	states, err := a.runtime.ServerStates(ctx, a.hap.pid, "")
	if err != nil {
		a.log.Warn("read the servers of HAProxy", "err", err)
		return
	}
	a.hap.doubt = false
	byBackend := map[string][]haproxy.ServerState{}
	for _, s := range states {
		byBackend[s.Backend] = append(byBackend[s.Backend], s)
	}
	for name, run := range a.hap.running {
		service := run.Service
		service.Backends = slices.Clone(service.Backends)
		differs := false
		for i, b := range service.Backends {
			servers := fromStates(b.Servers, byBackend[b.Name])
			differs = differs || !slices.Equal(byName(servers), byName(b.Servers))
			service.Backends[i].Servers = servers
			for _, s := range servers {
				key := b.Name + "/" + s.Name
				if _, known := a.hap.leaving[key]; s.Leaving && !known {
					a.hap.leaving[key] = time.Now()
				}
			}
		}
		if differs {
			a.hap.running[name] = haproxy.RenderService(service)
			if r := a.registrations[name]; r != nil {
				r.changed = true
				a.log.Warn("HAProxy had other servers than it should", "registration", name)
			}
		}
	}
}

// fromStates returns the servers that HAProxy says it has; known says what it
// does not tell.
func fromStates(known []haproxy.Server, states []haproxy.ServerState) []haproxy.Server {
	options := map[string]haproxy.Options{}
	for _, s := range known {
		options[s.Name] = s.Options
	}
	var servers []haproxy.Server
	for _, s := range states {
		server := haproxy.Server{Name: s.Name, Addr: s.Addr, ID: s.ID, Weight: s.Weight, Leaving: s.Maint, Options: options[s.Name]}
		if s.Drain {
			server.Weight = 0
		}
		servers = append(servers, server)
	}
	return servers
}

func byName(servers []haproxy.Server) []haproxy.Server {
	return slices.SortedFunc(slices.Values(servers), func(a, b haproxy.Server) int { return strings.Compare(a.Name, b.Name) })
}
