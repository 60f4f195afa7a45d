package agent

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/probe"
)

// A registration is one namespace on this host.
type registration struct {
	name      string
	namespace discover.Namespace
	proxied   bool            // has a frontend; otherwise only files for other tools
	problem   string          // why what soa-configs say now is not used
	ctx       context.Context // of all that runs for it
	stop      context.CancelFunc

	set       registry.Set
	confirmed bool      // the registry has answered this process
	readAt    time.Time // last answer
	readErr   string    // why there is none since; "" if there is
	hosts     []string  // that entries give by name
	bad       map[string]error

	members   discover.Members
	elsewhere []discover.Entry // that this host does not discover
	why       string           // why members stay that the registry does not name
	again     time.Time        // when to decide again without an event
	probing   map[netip.AddrPort]*probing

	section *haproxy.Section   // as it should run; nil: not decided yet
	stale   bool               // section is not of namespace, but of one before
	good    discover.Namespace // what HAProxy took last
	left    bool               // left out: HAProxy refuses it, and there is no good one
	refused *refusal           // why namespace is not what soa-configs ask for; nil: it is
	health  []health           // what probes of unproven members found
	waiting int                // servers that HAProxy must delete before they come again
	applied int64              // version of the set that HAProxy has
	dirty   bool
	touched bool // others have not seen it as it is now
	changed bool // the section was made anew and has not been compared with HAProxy
}

// health is what HAProxy is to be told of a server that it has.
type health struct {
	server string
	up     bool
}

// probing is a probe that is under way.
type probing struct {
	cancel context.CancelFunc
	check  haproxy.Check
	held   bool // looks whether a missing member is down, not whether a new one is up
	err    string
	down   bool // HAProxy was told that an unproven member is down
}

func (r *registration) read(rd read) {
	r.touched = true
	if rd.err != nil {
		r.readErr = rd.err.Error()
		return
	}
	if r.confirmed && sameSet(r.set, rd.set) { // a resync, most likely
		r.readErr, r.readAt = "", rd.at
		return
	}
	r.dirty = true
	r.readErr, r.readAt, r.confirmed, r.set, r.hosts = "", rd.at, true, rd.set, rd.hosts
}

// sameSet tells whether two reads saw the same.
func sameSet(a, b registry.Set) bool {
	if a.Version != b.Version {
		return false
	}
	if len(a.Nodes) > 0 && len(a.Nodes) == len(b.Nodes) && &a.Nodes[0] == &b.Nodes[0] {
		return true // a registry that knows that nothing has changed says the same again
	}
	return true &&
		slices.EqualFunc(a.Nodes, b.Nodes, func(x, y registry.Node) bool {
			return x.Path == y.Path && x.Czxid == y.Czxid && x.Host == y.Host && x.Port == y.Port && x.Name == y.Name && x.Weight == y.Weight &&
				x.ServerOptions == y.ServerOptions && maps.Equal(x.Labels, y.Labels)
		}) &&
		maps.EqualFunc(a.Bad, b.Bad, func(x, y error) bool { return x.Error() == y.Error() })
}

func (r *registration) probed(p probed, now time.Time) {
	running := r.probing[p.addr]
	if running == nil {
		return // nobody waits for it any more
	}
	r.touched = true
	var m discover.Member
	known, ok := r.members.All[p.addr]
	if ok {
		m = *known
	}
	switch {
	case p.err != nil:
		running.err = p.err.Error()
		if ok && m.Unproven && !running.down {
			running.down = true
			r.health = append(r.health, health{m.Entry.Name, false})
		}
		return
	case ok && p.passed && m.Unproven:
		m.Unproven = false
		if running.down {
			r.health = append(r.health, health{m.Entry.Name, true})
		}
	case ok && p.passed && !m.Serving:
		m.Serving, m.Since = true, now
	case ok && p.down && !m.Missing.IsZero():
		m.Down = true
	}
	if ok {
		r.members.Put(m)
	}
	running.cancel()
	delete(r.probing, p.addr)
	r.dirty = true
}

// down marks those missing members that HAProxy's own checks call down.
func (r *registration) down(servers map[string]bool) {
	for _, m := range r.members.All {
		if servers[m.Entry.Name] && !m.Missing.IsZero() && !m.Down {
			down := *m
			down.Down = true
			r.members.Put(down)
			r.dirty = true
		}
	}
}

// decideOne decides which servers r has, and starts and stops probes.
func (a *Agent) decideOne(r *registration, now time.Time) {
	r.touched = true
	if r.confirmed {
		var entries map[netip.AddrPort]discover.Entry // made anew, not kept: there are thousands
		entries, r.bad = discover.Entries(r.set, a.names.Lookup)
		r.members, r.elsewhere = split(r.namespace, r.members, entries)
		for addr, e := range entries {
			// What HAProxy already has was probed once, be it by the agent before us.
			_, known := r.members.All[addr]
			switch {
			case known:
			case a.hap.serves(r.name, e.Name):
				r.members.Put(discover.Member{Entry: e, Serving: true, Since: now})
			case a.hap.cold && r.proxied && e.Weight > 0:
				r.members.Put(discover.Member{Entry: e, Serving: true, Unproven: true, Since: now})
			}
		}
		var why string
		r.members, why, r.again = r.members.Next(entries, a.o.Floor, now)
		if why != r.why {
			if why != "" {
				a.log.Warn("kept servers that the registry does not name", "registration", r.name, "why", why)
			}
			r.why = why
		}
	}
	delete(a.later, r)
	if !r.again.IsZero() {
		a.later[r] = true
	}
	a.probe(r)
	a.build(r)
	a.files.cacheDirty(now, r.name)
}

// split takes what this host does not discover out of members and entries.
func split(n discover.Namespace, members discover.Members, entries map[netip.AddrPort]discover.Entry) (here discover.Members, elsewhere []discover.Entry) {
	away := map[netip.AddrPort]bool{}
	for addr, e := range entries {
		if !n.Sees(e) {
			away[addr] = true
			elsewhere = append(elsewhere, e)
			delete(entries, addr)
		}
	}
	slices.SortFunc(elsewhere, func(a, b discover.Entry) int { return strings.Compare(a.Name, b.Name) })
	return members.Without(func(e discover.Entry) bool { return away[e.Addr] || !n.Sees(e) }), elsewhere
}

// build makes the section anew.
func (a *Agent) build(r *registration) {
	if !r.proxied {
		return
	}
	service := r.namespace.With(r.members, a.numbers(r))
	if r.section == nil || r.stale {
		r.section = haproxy.NewSection(service)
	} else {
		r.section = r.section.With(service)
	}
	r.stale, r.changed = false, true
}

// numbers returns a function that gives servers their ids: the one that HAProxy
// knows a server by, or else the smallest that is free in the backend.
func (a *Agent) numbers(r *registration) func(backend, server string) int {
	all := map[string]*numbers{}
	of := func(backend string, servers int) *numbers {
		n := all[backend]
		if n == nil {
			n = &numbers{known: make(map[string]int, servers), used: make(map[int]bool, servers)}
			all[backend] = n
		}
		return n
	}
	note := func(s *haproxy.Section) {
		if s == nil {
			return
		}
		for _, b := range s.Service.Backends {
			n := of(b.Name, len(b.Servers)+1)
			for _, srv := range b.Servers {
				if n.known[srv.Name] == 0 && !n.used[srv.ID] {
					n.known[srv.Name], n.used[srv.ID] = srv.ID, true
				}
			}
		}
	}
	run := a.hap.running[r.name]
	note(run) // first: what runs decides
	if r.section != run {
		note(r.section)
	}
	return func(backend, server string) int { return of(backend, 0).number(server) }
}

// numbers are the ids of the servers of a backend.
type numbers struct {
	known map[string]int // by server
	used  map[int]bool
	last  int // the smallest that may be free, less one
}

func (n *numbers) number(server string) int {
	if id := n.known[server]; id != 0 {
		return id
	}
	for n.last++; n.used[n.last]; {
		n.last++
	}
	n.known[server], n.used[n.last] = n.last, true
	return n.last
}

// probe starts the probes that r needs and stops those that it does not.
func (a *Agent) probe(r *registration) {
	check := r.namespace.Service.Check
	if !r.proxied {
		// Nobody sends traffic from here: other tools get what the registry says. What
		// it does not name any more stays until it is down.
		check = haproxy.Check{Mode: haproxy.ModeTCP, Timeout: time.Second}
		for _, m := range r.members.All {
			if unproven(m) {
				serving := *m
				serving.Serving, serving.Unproven = true, false
				r.members.Put(serving)
			}
		}
	}
	told := map[netip.AddrPort]bool{} // what HAProxy was told is down, by probes of another check
	for addr, p := range r.probing {
		m, ok := r.members.All[addr]
		if ok {
			needs, held := needsProbe(m)
			ok = needs && held == p.held
		}
		if ok && !reflect.DeepEqual(p.check, check) {
			ok, told[addr] = false, p.down
		}
		if !ok {
			p.cancel()
			delete(r.probing, addr)
		}
	}
	if len(r.probing) == 0 {
		r.probing = nil // else it keeps the room for all that there ever was
	}
	for addr, m := range r.members.All {
		needs, held := needsProbe(m)
		if _, under := r.probing[addr]; !needs || under || m.Unproven && a.hap.cold {
			continue
		}
		if r.probing == nil {
			r.probing = map[netip.AddrPort]*probing{}
		}
		p := &probing{check: check, held: held, down: told[addr]}
		r.probing[addr] = p
		ctx, cancel := context.WithCancel(r.ctx)
		p.cancel = cancel
		if held {
			a.probes.UntilDown(ctx, addr, check, func() { a.tell(probed{registration: r.name, addr: addr, down: true}) })
			continue
		}
		order, tell := probe.First, a.tell
		if m.Unproven {
			order, tell = probe.Crowd, a.tellLater
		}
		a.probes.UntilPass(ctx, order, addr, check,
			func(err error) { tell(probed{registration: r.name, addr: addr, err: err}) },
			func() { tell(probed{registration: r.name, addr: addr, passed: true}) })
	}
}

func needsProbe(m *discover.Member) (needs, held bool) {
	if m.Serving && !m.Missing.IsZero() {
		return !m.Down, true
	}
	return !m.Serving || m.Unproven, false
}

func (a *Agent) tell(p probed) {
	a.inbox.put(func() { a.inbox.probed = append(a.inbox.probed, p) })
}

// tellLater tells what nobody waits for, with what else there is by then.
func (a *Agent) tellLater(p probed) {
	a.inbox.putLater(func() { a.inbox.probed = append(a.inbox.probed, p) })
}

// firstNames is how long the first read of a registration waits for the
// addresses of hosts that it gives by name.
const firstNames = 3 * time.Second

// watch follows r in the registry, until its end.
func (a *Agent) watch(r *registration) {
	first := true
	a.watcher.Watch(r.ctx, r.name, func(set registry.Set, err error) {
		rd := read{set: set, err: err, at: time.Now()}
		if err == nil {
			rd.hosts = discover.Hosts(set)
			a.names.Want(r, rd.hosts)
			if first { // else servers that HAProxy has look as if they had gone
				ctx, cancel := context.WithTimeout(r.ctx, firstNames)
				a.names.Await(ctx, rd.hosts)
				cancel()
			}
			first = false
		}
		a.inbox.put(func() { a.inbox.reads[r.name] = rd })
	}, func() { a.names.Want(r, nil) })
}
