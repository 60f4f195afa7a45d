package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// What a registration should be, by what is known of it.
func TestBuild(t *testing.T) {
	t.Parallel()
	port := 20001
	settings := discover.Settings{
		Location: discover.Location{Types: []string{"region"}, Here: map[string]string{"region": "west"}},
		Bind:     []netip.Addr{loopback},
	}
	ns := soaconfig.Namespace{Service: "web", Name: "main", ProxyPort: &port, Mode: "http", Discover: "region", Advertise: []string{"region"}}
	web, err := discover.NewNamespace(ns, settings)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	set := func(entries ...registry.Entry) *registry.Set {
		s := &registry.Set{}
		for i, e := range entries {
			s.Nodes = append(s.Nodes, registry.Node{Entry: e, Path: fmt.Sprint("/", i), Czxid: int64(i)})
		}
		return s
	}
	at := func(n int, change ...func(*registry.Entry)) registry.Entry {
		e := registry.Entry{Host: fmt.Sprintf("10.0.0.%d", n), Port: 80, Weight: 10, Labels: map[string]string{"region:west": ""}}
		for _, c := range change {
			c(&e)
		}
		return e
	}
	lookup := func(string) (netip.Addr, error) { return netip.Addr{}, errors.New("nobody knows") }
	floor := discover.Floor{Share: 0.5, Window: time.Minute}
	cold := func(n discover.Namespace, entries ...registry.Entry) (discover.Members, desired) {
		return build(snapshot{namespace: n, set: set(entries...), cold: true, floor: floor, lookup: lookup, now: now})
	}
	served, before := cold(web, at(1), at(2))
	for name, tt := range map[string]struct {
		s       snapshot
		servers string // "address id weight" of the section's, by address; down is said
		probes  map[string]probeKind
		why     bool
	}{
		"the registry has not answered": {snapshot{namespace: web}, "", nil, false},
		"a new server waits for its probe": {
			snapshot{namespace: web, set: set(at(1))}, "", map[string]probeKind{"10.0.0.1:80": untilUp}, false,
		},
		"a host that has never served does not wait": {
			snapshot{namespace: web, set: set(at(1)), cold: true}, "10.0.0.1:80 1 10", nil, false,
		},
		"what HAProxy has was probed once": {
			snapshot{namespace: web, set: set(at(1), at(3)), running: before.section}, "10.0.0.1:80 1 10", map[string]probeKind{"10.0.0.3:80": untilUp}, false,
		},
		"servers keep their ids, a new one gets the first that is free": {
			snapshot{namespace: web, set: set(at(2), at(3)), running: before.section, cold: true}, "10.0.0.2:80 2 10, 10.0.0.3:80 3 10", nil, false,
		},
		"a drain": {
			snapshot{namespace: web, set: set(at(1, weight(0)), at(2)), members: served, running: before.section},
			"10.0.0.1:80 1 0, 10.0.0.2:80 2 10",
			map[string]probeKind{"10.0.0.1:80": verify, "10.0.0.2:80": verify},
			false,
		},
		"an empty registry takes nothing away": {
			snapshot{namespace: web, set: set(), members: served, running: before.section},
			"10.0.0.1:80 1 10, 10.0.0.2:80 2 10",
			map[string]probeKind{"10.0.0.1:80": untilDown, "10.0.0.2:80": untilDown},
			true,
		},
		"what is elsewhere is none of this host's business": {
			snapshot{namespace: web, set: set(at(1, func(e *registry.Entry) { e.Labels = map[string]string{"region:east": ""} })), cold: true}, "", nil, false,
		},
		"without a proxy_port everything is taken at its word": {
			snapshot{namespace: discover.Unproxied(ns, settings), set: set(at(1))}, "none", nil, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.s.floor, tt.s.lookup, tt.s.now = floor, lookup, now.Add(time.Second)
			given := len(tt.s.members.All)
			_, got := build(tt.s)
			_, again := build(tt.s)
			if len(tt.s.members.All) != given || got.section != nil && !got.section.Equal(again.section) {
				t.Errorf("two builds of one snapshot differ")
			}
			var probes map[string]probeKind
			for addr, kind := range got.probes {
				if probes == nil {
					probes = map[string]probeKind{}
				}
				probes[addr.String()] = kind
			}
			if diff := cmp.Diff([]any{tt.servers, tt.probes, tt.why}, []any{servers(got.section), probes, got.why != ""}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A member that serves unverified and whose probe fails is down in HAProxy, until it
// passes.
func TestBuildOfAFailingMember(t *testing.T) {
	t.Parallel()
	port := 20001
	web, err := discover.NewNamespace(soaconfig.Namespace{Service: "web", Name: "main", ProxyPort: &port}, discover.Settings{Bind: []netip.Addr{loopback}})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	r := &registration{name: "web.main", namespace: web, probes: map[netip.AddrPort]*runningProbe{addr: {kind: verify, cancel: func() {}}}}
	r.members.Put(discover.Member{Entry: discover.Entry{Node: new(registry.Node), Addr: addr, Name: "a", Weight: 10}, Serving: true, Unverified: true})
	failed := probeResult{registration: "web.main", addr: addr, kind: verify, err: errors.New("503")}
	for i, want := range []bool{true, false} {
		if got := r.probed(failed, time.Now()); got != want {
			t.Errorf("failure %d matters: %v", i+1, got)
		}
	}
	_, d := build(snapshot{namespace: web, members: r.members})
	if got := servers(d.section); got != "10.0.0.1:80 1 10 down" {
		t.Errorf("after a failure: %s", got)
	}
	failed.err = nil
	if !r.probed(failed, time.Now()) || r.probed(failed, time.Now()) {
		t.Error("that it passes matters once")
	}
	_, up := build(snapshot{namespace: web, members: r.members})
	if c := haproxy.Diff(d.section, up.section); len(c.Commands) != 1 || !slices.Equal(c.Commands[0].Lines(), []string{"set server web.main/a health up"}) {
		t.Errorf("after it passed: %+v", c)
	}
}

func servers(s *haproxy.Section) string {
	if s == nil {
		return "none"
	}
	var all []string
	for _, b := range s.Service.Backends {
		for _, srv := range b.Servers {
			text := fmt.Sprintf("%s %d %d", srv.Addr, srv.ID, srv.Weight)
			if srv.Down {
				text += " down"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}
