package agent

import (
	"context"
	"net/netip"
	"reflect"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/probe"
)

// A probeKind is what is probed for.
type probeKind int

const (
	noProbe   probeKind = iota
	untilUp             // a member that takes no traffic before
	verify              // a member that takes traffic already
	untilDown           // a missing member, which stays until then
)

// neededProbe is the probe that a member needs.
func neededProbe(m *discover.Member) probeKind {
	switch {
	case m.Serving && !m.Missing.IsZero() && m.Down:
		return noProbe
	case m.Serving && !m.Missing.IsZero():
		return untilDown
	case !m.Serving:
		return untilUp
	case m.Unverified:
		return verify
	}
	return noProbe
}

// A runningProbe is a probe that is under way.
type runningProbe struct {
	cancel context.CancelFunc
	kind   probeKind
	check  haproxy.Check
	err    string // of the last try
}

// discoveredCheck is for what this host discovers for other tools only.
var discoveredCheck = haproxy.Check{Mode: haproxy.ModeTCP, Timeout: time.Second}

// probe starts the probes that the last build of a registration asks for, and
// stops all others.
func (r *registration) probe(pool *probe.Pool, events *mailbox) {
	check := discoveredCheck
	if r.namespace.Proxied() {
		check = r.namespace.Service.Check
	}
	for addr, p := range r.probes {
		if r.desired.probes[addr] != p.kind || !reflect.DeepEqual(p.check, check) {
			p.cancel()
			delete(r.probes, addr)
		}
	}
	if len(r.probes) == 0 {
		r.probes = nil // else it keeps the room for all that there ever was
	}
	for addr, kind := range r.desired.probes {
		if r.probes[addr] != nil {
			continue
		}
		if r.probes == nil {
			r.probes = map[netip.AddrPort]*runningProbe{}
		}
		ctx, cancel := context.WithCancel(r.ctx)
		r.probes[addr] = &runningProbe{cancel: cancel, kind: kind, check: check}
		order, put := probe.Urgent, events.put
		if kind == verify {
			order, put = probe.Background, events.putDelayed
		}
		tell := func(err error) { put(probeResult{r.name, addr, kind, err}) }
		if kind == untilDown {
			pool.UntilDown(ctx, addr, check, func() { tell(nil) })
		} else {
			pool.UntilPass(ctx, order, addr, check, tell, func() { tell(nil) })
		}
	}
}
