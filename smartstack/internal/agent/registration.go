package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A registration is what has been told about one namespace on this host. Its
// methods take events, and say whether they change anything.
type registration struct {
	name string
	ctx  context.Context // of all that runs for it
	stop context.CancelFunc

	namespace discover.Namespace // that is served
	good      discover.Namespace // that HAProxy took last; without Source: none
	refused   *refusal           // why namespace is not what soa-configs ask for; nil: it is
	answer    answer             // of the registry
	members   discover.Members   // as they were built last, and what checks found since
	desired   desired            // the last build
	probes    map[netip.AddrPort]*runningProbe
	applied   int64 // version of the registry that HAProxy has
}

// An answer is what the registry said last.
type answer struct {
	set   registry.Set
	hosts []string  // of it, that are names
	at    time.Time // zero: it has not answered this process
	err   string    // why there is no answer since; "" if there is
}

func (a answer) known() bool { return !a.at.IsZero() }

// A refusal is why HAProxy does not have a namespace as soa-configs have it. It
// is kept: to ask for the same again and again would cost a reload each time.
type refusal struct {
	err       error
	structure [sha256.Size]byte // of what was refused
	leftOut   bool              // there is no good one to serve instead
}

// stands tells whether HAProxy would refuse a namespace again. What it refused when
// it started may be a port that is free by now.
func (f *refusal) stands(n discover.Namespace, listening bool, free func([]netip.AddrPort) error) bool {
	if f == nil || f.structure != n.Structure() {
		return false
	}
	refused, ok := errors.AsType[*haproxy.ConfigError](f.err)
	started := ok && refused.Did == haproxy.Started
	return !started || listening || free(n.Service.Bind) != nil
}

// served tells whether HAProxy is to have the registration.
func (r *registration) served() bool {
	return r.namespace.Proxied() && (r.refused == nil || !r.refused.leftOut)
}

// read takes an answer of the registry.
func (r *registration) read(e registryRead) (changed bool) {
	if e.err != nil {
		r.answer.err = e.err.Error()
		return false
	}
	changed = !r.answer.known() || !sameSet(r.answer.set, e.set) // else a resync, most likely
	if !changed {
		e.set, e.hosts = r.answer.set, r.answer.hosts
	}
	r.answer = answer{set: e.set, hosts: e.hosts, at: e.at}
	return changed
}

// sameSet tells whether two reads saw the same.
func sameSet(a, b registry.Set) bool {
	if a.Version != b.Version {
		return false
	}
	if len(a.Nodes) > 0 && len(a.Nodes) == len(b.Nodes) && &a.Nodes[0] == &b.Nodes[0] {
		return true // a registry that knows that nothing has changed says the same again
	}
	return slices.EqualFunc(a.Nodes, b.Nodes, func(x, y registry.Node) bool {
		return x.Path == y.Path && x.Czxid == y.Czxid && x.Host == y.Host && x.Port == y.Port && x.Name == y.Name && x.Weight == y.Weight &&
			x.ServerOptions == y.ServerOptions && maps.Equal(x.Labels, y.Labels)
	}) && maps.EqualFunc(a.Bad, b.Bad, func(x, y error) bool { return x.Error() == y.Error() })
}

// probed takes the result of a probe.
func (r *registration) probed(e probeResult, now time.Time) (changed bool) {
	running := r.probes[e.addr]
	if running == nil || running.kind != e.kind {
		return false // nobody waits for it any more
	}
	if e.err != nil {
		running.err = e.err.Error()
	} else {
		running.cancel()
		delete(r.probes, e.addr)
	}
	known, ok := r.members.All[e.addr]
	if !ok {
		return e.err == nil
	}
	m := *known
	switch {
	case e.err != nil:
		m.Failing = m.Unverified
	case e.kind == untilDown:
		m.Down = !m.Missing.IsZero()
	case m.Unverified:
		m.Unverified, m.Failing = false, false
	case !m.Serving:
		m.Serving, m.Since = true, now
	}
	if m == *known {
		return e.err == nil
	}
	r.members.Put(m)
	return true
}

// serversDown marks those missing members that HAProxy's own checks call down.
func (r *registration) serversDown(servers map[string]bool) (changed bool) {
	for _, known := range r.members.All {
		if servers[known.Entry.Name] && !known.Missing.IsZero() && !known.Down {
			m := *known
			m.Down = true
			r.members.Put(m)
			changed = true
		}
	}
	return changed
}

// unverify makes the members of a registration that has no frontend yet wait for
// their first probe, like those that come: without a frontend nobody asked them.
// A host that has never served sends them traffic meanwhile.
func (r *registration) unverify(cold bool) {
	for _, known := range r.members.All {
		m := *known
		m.Unverified = m.Serving && cold
		m.Serving = m.Unverified
		r.members.Put(m)
	}
}
