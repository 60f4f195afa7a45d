package agent

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A snapshot is all that the build of a registration starts from.
type snapshot struct {
	namespace discover.Namespace
	set       *registry.Set    // nil: the registry has not answered this process
	members   discover.Members // of the last build
	running   *haproxy.Section // as HAProxy has it; nil: not at all
	section   *haproxy.Section // of the last build
	cold      bool             // this host has never served
	floor     discover.Floor
	lookup    discover.Lookup
	now       time.Time
}

// A desired is how a registration should be.
type desired struct {
	section   *haproxy.Section // nil without a proxy_port
	elsewhere []discover.Entry // that this host does not discover
	bad       map[string]error // znodes that are no entries, by path
	why       string           // members stay that the registry does not name
	again     time.Time        // when to build again without an event; zero: never
	probes    map[netip.AddrPort]probeKind
}

// build decides how a registration should be: its members, its section in HAProxy,
// and which of its members are probed. It is pure.
func build(s snapshot) (discover.Members, desired) {
	var d desired
	members := s.members
	if s.set != nil {
		members, d.elsewhere, d.bad, d.why, d.again = s.merge()
	} else {
		members.All = maps.Clone(members.All) // what was built before is not changed
	}
	for addr, known := range members.All {
		m := *known
		if !s.namespace.Proxied() && !m.Verified() {
			// Nobody sends traffic from here: other tools get what the registry says.
			m.Serving, m.Unverified, m.Failing = true, false, false
			members.Put(m)
		}
		if kind := neededProbe(&m); kind != noProbe && (!m.Unverified || !s.cold) {
			if d.probes == nil {
				d.probes = map[netip.AddrPort]probeKind{}
			}
			d.probes[addr] = kind
		}
	}
	if s.namespace.Proxied() {
		d.section = s.namespace.With(members, serverIDs(s.running, s.section))
	}
	return members, d
}

// merge brings the members in step with what the registry says.
func (s snapshot) merge() (members discover.Members, elsewhere []discover.Entry, bad map[string]error, why string, again time.Time) {
	entries, bad := discover.Entries(*s.set, s.lookup)
	away := map[netip.AddrPort]bool{}
	for addr, e := range entries {
		if !s.namespace.Sees(e) {
			away[addr] = true
			elsewhere = append(elsewhere, e)
			delete(entries, addr)
		}
	}
	slices.SortFunc(elsewhere, func(a, b discover.Entry) int { return strings.Compare(a.Name, b.Name) })
	before := s.members.Without(func(e discover.Entry) bool { return away[e.Addr] || !s.namespace.Sees(e) })
	cloned := false
	for addr, e := range entries {
		// What HAProxy already has was probed once, be it by the agent before us.
		_, known := before.All[addr]
		served := !known && s.running.Serves(e.Name)
		if known || !served && (!s.cold || !s.namespace.Proxied() || e.Weight == 0) {
			continue
		}
		if !cloned {
			before.All, cloned = maps.Clone(before.All), true // what was built before is not changed
		}
		before.Put(discover.Member{Entry: e, Serving: true, Unverified: !served, Since: s.now})
	}
	members, why, again = before.Next(entries, s.floor, s.now)
	return members, elsewhere, bad, why, again
}

// serverIDs returns a function that gives servers their ids: the one that HAProxy
// knows a server by, else the one of the last build, else the smallest that is free
// in the backend.
func serverIDs(running, last *haproxy.Section) func(backend, server string) int {
	all := map[string]*backendIDs{}
	of := func(backend string, servers int) *backendIDs {
		n := all[backend]
		if n == nil {
			n = &backendIDs{known: make(map[string]int, servers), used: make(map[int]bool, servers)}
			all[backend] = n
		}
		return n
	}
	for i, section := range []*haproxy.Section{running, last} {
		if section == nil || i == 1 && last == running {
			continue
		}
		for _, b := range section.Service.Backends {
			n := of(b.Name, len(b.Servers)+1)
			for _, srv := range b.Servers {
				if n.known[srv.Name] == 0 && !n.used[srv.ID] {
					n.known[srv.Name], n.used[srv.ID] = srv.ID, true
				}
			}
		}
	}
	return func(backend, server string) int { return of(backend, 0).id(server) }
}

// backendIDs are the ids of the servers of a backend.
type backendIDs struct {
	known map[string]int // by server
	used  map[int]bool
	last  int // the smallest that may be free, less one
}

func (n *backendIDs) id(server string) int {
	if id := n.known[server]; id != 0 {
		return id
	}
	for n.last++; n.used[n.last]; {
		n.last++
	}
	n.known[server], n.used[n.last] = n.last, true
	return n.last
}
