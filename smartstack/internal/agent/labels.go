package agent

import (
	"context"
	"net/netip"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// Labels are what the registry says about a server, for those who count.
type Labels struct {
	Version  string // git sha
	Instance string
	TaskID   string
	Host     string // as registered
	Addr     netip.AddrPort
}

// Labels returns the servers of a registration by HAProxy's name for them, and
// what the namespace says about metrics. ok is false when there is no such
// registration on this host.
func (a *Agent) Labels(registration string) (servers map[string]Labels, metrics discover.Metrics, ok bool) {
	a.view.mu.Lock()
	s, ok := a.view.seen[registration] // replaced, never changed
	a.view.mu.Unlock()
	if !ok {
		return nil, discover.Metrics{}, false
	}
	servers = make(map[string]Labels, len(s.members))
	for _, m := range s.members {
		n := m.Entry.Node
		servers[m.Entry.Name] = Labels{
			Version: n.Labels[registry.LabelGitSHA], Instance: n.Labels[registry.LabelInstance], TaskID: n.Labels[registry.LabelTaskID], Host: n.Host, Addr: m.Entry.Addr,
		}
	}
	return servers, s.metrics, true
}

// Measured lists the registrations whose namespace says where its tasks show
// their metrics.
func (a *Agent) Measured() []string {
	a.view.mu.Lock()
	defer a.view.mu.Unlock()
	var names []string
	for name, s := range a.view.seen {
		if s.metrics.URI != "" {
			names = append(names, name)
		}
	}
	return names
}

// Info asks HAProxy about itself.
func (a *Agent) Info(ctx context.Context) (haproxy.Info, error) { return a.runtime.Info(ctx) }
