package discover

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/paasta/registry"
)

var floor = Floor{Share: 0.5, Window: 10 * time.Second}

func entries(weights map[int]int) map[netip.AddrPort]Entry {
	set := registry.Set{}
	for n, w := range weights {
		set.Nodes = append(set.Nodes, registry.Node{Entry: registry.Entry{Host: fmt.Sprintf("10.0.0.%d", n), Port: 80, Weight: w, Name: "h"}, Path: fmt.Sprint(n)})
	}
	es, bad := Entries(set, nil)
	if len(bad) > 0 {
		panic(fmt.Sprint(bad))
	}
	return es
}

// pass makes every member serve, as a probe would.
func pass(m Members) Members {
	for _, member := range m.All {
		passed := *member
		passed.Serving = true
		m.Put(passed)
	}
	return m
}

func weights(n, weight int) map[int]int {
	all := map[int]int{}
	for i := 1; i <= n; i++ {
		all[i] = weight
	}
	return all
}

func TestFloor(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	begin := func(n int) Members {
		m, _, _ := Members{}.Next(entries(weights(n, 10)), floor, start)
		m, _, _ = pass(m).Next(entries(weights(n, 10)), floor, start)
		return m
	}
	tests := []struct {
		name string
		had  int
		now  map[int]int
		want int // that still take traffic
	}{
		{"one of ten goes", 10, weights(9, 10), 9},
		{"half goes", 10, weights(5, 10), 5},
		{"more than half", 10, weights(2, 10), 5},
		{"all", 10, nil, 10},
		{"the only one", 1, nil, 1},
		{"all are drained", 10, weights(10, 0), 0},
		{"one of two", 2, weights(1, 10), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, why, again := begin(tt.had).Next(entries(tt.now), floor, start.Add(time.Second))
			if got := m.taking(); got != tt.want {
				t.Errorf("%d take traffic, want %d (%s)", got, tt.want, why)
			}
			if held, _ := m.Held(); (held > 0) != (why != "") || held > 0 && len(tt.now) > 0 && again.IsZero() {
				t.Errorf("%d held, why %q, again %s", held, why, again)
			}
		})
	}

	t.Run("the rest goes with time", func(t *testing.T) {
		t.Parallel()
		m, _, again := begin(10).Next(entries(weights(1, 10)), floor, start.Add(time.Second))
		for range 10 {
			if again.IsZero() {
				break
			}
			m, _, again = m.Next(entries(weights(1, 10)), floor, again)
		}
		if n := m.taking(); n != 1 {
			t.Errorf("%d take traffic in the end, want 1", n)
		}
	})
	t.Run("those that are down go at once", func(t *testing.T) {
		t.Parallel()
		m, _, _ := begin(10).Next(nil, floor, start.Add(time.Second))
		for addr, member := range m.All {
			member.Down = true
			m.All[addr] = member
		}
		m, _, _ = m.Next(nil, floor, start.Add(2*time.Second))
		if len(m.All) != 0 {
			t.Errorf("%d stay", len(m.All))
		}
	})
	t.Run("a wipe node by node loses none for long", func(t *testing.T) {
		t.Parallel()
		m := begin(4)
		for n := 3; n >= 0; n-- {
			m, _, _ = m.Next(entries(weights(n, 10)), floor, start.Add(time.Duration(5-n)*time.Millisecond))
		}
		if len(m.All) != 4 {
			t.Errorf("%d members, want all 4 back: %+v", len(m.All), m.All)
		}
	})
	t.Run("replacing all is no loss", func(t *testing.T) {
		t.Parallel()
		fresh := map[int]int{}
		for n := 101; n <= 110; n++ {
			fresh[n] = 10
		}
		m, _, _ := begin(10).Next(entries(fresh), floor, start.Add(time.Second))
		if n := m.taking(); n != 5 {
			t.Errorf("%d take traffic before the new ones pass their probe, want 5", n)
		}
		m, _, _ = pass(m).Next(entries(fresh), floor, start.Add(time.Second))
		if n := m.taking(); n != 10 || len(m.All) != 10 {
			t.Errorf("%d take traffic, want the new 10", n)
		}
	})
}

// Whatever the registry says, no pass leaves fewer servers than the floor allows
// of those that nobody drained.
func TestFloorHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var m Members
		for range rapid.IntRange(1, 12).Draw(t, "passes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "seconds")) * time.Second)
			next := map[int]int{}
			for n := 1; n <= 8; n++ {
				switch rapid.IntRange(0, 3).Draw(t, "entry") {
				case 0, 1:
					next[n] = 10
				case 2:
					next[n] = 0
				}
			}
			es := entries(next)
			before, drained := m.taking(), 0
			for addr, e := range es {
				if old, ok := m.All[addr]; ok && old.Serving && !old.draining() && e.Weight == 0 {
					drained++
				}
			}
			m, _, _ = m.Next(es, floor, now)
			if got, want := m.taking(), int(math.Ceil(float64(before-drained)*floor.Share)); got < want {
				t.Fatalf("%d take traffic, want at least %d of %d (%d drained)", got, want, before, drained)
			}
			for addr := range es {
				if member, ok := m.All[addr]; ok && !member.Missing.IsZero() {
					t.Fatalf("%s is in the registry and missing", addr)
				}
			}
			if rapid.Bool().Draw(t, "probes pass") {
				m = pass(m)
			}
		}
	})
}

func TestEntriesTakesTheNewestNode(t *testing.T) {
	t.Parallel()
	set := registry.Set{Nodes: []registry.Node{
		{Entry: registry.Entry{Host: "10.0.0.1", Port: 80, Name: "old", Weight: 10}, Path: "/b", Czxid: 1},
		{Entry: registry.Entry{Host: "10.0.0.1", Port: 80, Name: "new\nserver evil", Weight: 1000, ServerOptions: "maxconn 5 weight 7 on-marked-down shutdown-sessions"}, Path: "/a", Czxid: 2},
		{Entry: registry.Entry{Host: "evil host", Port: 80}, Path: "/c"},
		{Entry: registry.Entry{Host: "10.0.0.2", Port: 99999}, Path: "/d"},
	}}
	got, bad := Entries(set, nil)
	if len(got) != 1 || len(bad) != 2 {
		t.Fatalf("%+v, %v", got, bad)
	}
	e := got[netip.MustParseAddrPort("10.0.0.1:80")]
	if e.Name != "new-server-evil_10.0.0.1:80" || e.Weight != 7 || e.Options.MaxConn != 5 {
		t.Errorf("%+v", e)
	}
}
