package registrytest

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta/registry"
)

// Run holds the registry that open returns, empty, to the contract. The fake and
// ZooKeeper's both pass it, which is what makes the fake worth trusting.
func Run(t *testing.T, open func(t *testing.T) registry.Registry) {
	a := registry.Entry{Host: "10.0.0.1", Port: 31000, Name: "h1", Weight: 10, Labels: map[string]string{"region:r1": "", registry.LabelCluster: "c"}}
	b := registry.Entry{Host: "10.0.0.2", Port: 31000, Weight: 0} // draining
	c := registry.Entry{Host: "10.0.0.2", Port: 31001, Weight: 10}

	t.Run("what is not there is empty", func(t *testing.T) {
		r := open(t)
		set, err := r.List(t.Context(), "web.main")
		if err != nil || len(set.Nodes) != 0 || set.Version != 0 {
			t.Errorf("got %+v, %v", set, err)
		}
		if names, err := r.Registrations(t.Context()); err != nil || len(names) != 0 {
			t.Errorf("registrations %v, %v", names, err)
		}
	})

	t.Run("lists what was added, in order", func(t *testing.T) {
		r := open(t)
		apply(t, r, "web.main", []registry.Entry{c, b, a}, nil)
		apply(t, r, "api.main", []registry.Entry{b}, nil)
		wantList(t, r, "web.main", a, b, c)
		wantList(t, r, "api.main", b)
		names, err := r.Registrations(t.Context())
		if diff := gocmp.Diff([]string{"api.main", "web.main"}, names); err != nil || diff != "" {
			t.Errorf("registrations: %v\n%s", err, diff)
		}
	})

	t.Run("adding and removing twice is no error", func(t *testing.T) {
		r := open(t)
		apply(t, r, "web.main", []registry.Entry{a, b}, nil)
		apply(t, r, "web.main", []registry.Entry{a, a, c}, nil)
		before := wantList(t, r, "web.main", a, b, c)
		apply(t, r, "web.main", nil, before.Nodes[:1])
		apply(t, r, "web.main", nil, before.Nodes[:2])
		wantList(t, r, "web.main", c)
	})

	t.Run("a change is one transaction and one version", func(t *testing.T) {
		r := open(t)
		apply(t, r, "web.main", []registry.Entry{a}, nil)
		before := wantList(t, r, "web.main", a)
		drained := a
		drained.Weight = 0
		apply(t, r, "web.main", []registry.Entry{drained}, before.Nodes)
		after := wantList(t, r, "web.main", drained)
		if after.Version <= before.Version {
			t.Errorf("version %d after %d", after.Version, before.Version)
		}
	})

	t.Run("what is both added and removed stays", func(t *testing.T) {
		r := open(t)
		apply(t, r, "web.main", []registry.Entry{a}, nil)
		set := wantList(t, r, "web.main", a)
		apply(t, r, "web.main", []registry.Entry{a}, set.Nodes)
		wantList(t, r, "web.main", a)
	})

	t.Run("a newcomer is the last in line, who changes keeps its place", func(t *testing.T) {
		r := open(t)
		line := func(set registry.Set) (ports []int) {
			t.Helper()
			sequence := map[int]int64{}
			for _, n := range set.Nodes {
				s, ok := registry.Sequence(n.Path)
				if !ok {
					t.Errorf("%s has no sequence", n.Path)
				}
				sequence[n.Port] = s
				ports = append(ports, n.Port)
			}
			slices.SortFunc(ports, func(a, b int) int { return cmp.Compare(sequence[a], sequence[b]) })
			return slices.CompactFunc(ports, func(a, b int) bool { return sequence[a] == sequence[b] })
		}
		at := func(port, weight int, git string) registry.Entry {
			return registry.Entry{Host: "10.0.0.1", Port: port, Weight: weight, Labels: map[string]string{registry.LabelGitSHA: git}}
		}
		check := func(why string, want []int, all ...registry.Entry) registry.Set {
			t.Helper()
			set := wantList(t, r, "web.main", all...)
			if diff := gocmp.Diff(want, line(set)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", why, diff)
			}
			return set
		}
		apply(t, r, "web.main", []registry.Entry{at(3, 10, "a"), at(2, 10, "a")}, nil)
		set := check("as added", []int{3, 2}, at(2, 10, "a"), at(3, 10, "a"))
		apply(t, r, "web.main", []registry.Entry{at(1, 10, "a")}, nil)
		set = check("a newcomer", []int{3, 2, 1}, at(1, 10, "a"), set.Nodes[0].Entry, set.Nodes[1].Entry)
		apply(t, r, "web.main", []registry.Entry{at(3, 20, "b")}, set.Nodes[2:])
		set = check("changed", []int{3, 2, 1}, at(1, 10, "a"), at(2, 10, "a"), at(3, 20, "b"))
		apply(t, r, "web.main", []registry.Entry{at(3, 0, "b")}, set.Nodes[2:])
		set = wantList(t, r, "web.main", at(1, 10, "a"), at(2, 10, "a"), at(3, 0, "b"))
		if name := path.Base(set.Nodes[2].Path); !strings.HasPrefix(name, "draining_") {
			t.Errorf("it drains as %s, where synapse finds it", name)
		}
		apply(t, r, "web.main", []registry.Entry{at(3, 10, "b")}, set.Nodes[2:])
		check("drained, and back", []int{2, 1, 3}, at(1, 10, "a"), at(2, 10, "a"), at(3, 10, "b"))
	})

	t.Run("refuses what would harm a config", func(t *testing.T) {
		r := open(t)
		for name, e := range map[string]registry.Entry{
			"host with a space": {Host: "a b", Port: 1},
			"port 0":            {Host: "a"},
			"newline in label":  {Host: "a", Port: 1, Labels: map[string]string{"x": "a\nb"}},
		} {
			if err := r.Apply(t.Context(), "web.main", []registry.Entry{a, e}, nil); err == nil {
				t.Errorf("%s: added", name)
			}
		}
		elsewhere := registry.Node{Path: path.Join(registry.Root, "api.main", "x")}
		if err := r.Apply(t.Context(), "web.main", nil, []registry.Node{elsewhere}); err == nil {
			t.Error("removed a node of another registration")
		}
		for _, registration := range []string{"", "web", "a/b.main", "web.main/x"} {
			if err := r.Apply(t.Context(), registration, []registry.Entry{a}, nil); err == nil {
				t.Errorf("registered in %q", registration)
			}
		}
		if set, err := r.List(t.Context(), "web.main"); err != nil || len(set.Nodes) != 0 {
			t.Errorf("remaining %+v, %v", set, err)
		}
	})

	t.Run("of two nodes for one address the newest is known", func(t *testing.T) {
		r := open(t)
		old, recent := a, a
		old.Labels = map[string]string{registry.LabelTaskID: "zzz"}
		recent.Labels = map[string]string{registry.LabelTaskID: "aaa"}
		apply(t, r, "web.main", []registry.Entry{old}, nil)
		apply(t, r, "web.main", []registry.Entry{recent, b}, nil)
		set, err := r.List(t.Context(), "web.main")
		if err != nil {
			t.Fatal(err)
		}
		age := map[string]int64{}
		for _, n := range set.Nodes {
			age[n.Labels[registry.LabelTaskID]] = n.Czxid
		}
		if age["aaa"] <= age["zzz"] {
			t.Errorf("the nodes are of %v, the newer one is aaa", age)
		}
	})

	t.Run("wakes watchers, also of what does not exist yet", func(t *testing.T) {
		r := open(t)
		wakes := map[string]chan struct{}{}
		for _, name := range []string{"first", "second"} {
			wake := make(chan struct{}, 1)
			if err := r.Watch(t.Context(), "web.main", Send(wake)); err != nil {
				t.Fatal(err)
			}
			woken(t, wake, name+" list")
			wakes[name] = wake
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{}, 1)
		if err := r.Watch(ctx, "web.main", Send(stopped)); err != nil {
			t.Fatal(err)
		}
		woken(t, stopped, "first list")
		cancel()

		wantList(t, r, "web.main")
		apply(t, r, "web.main", []registry.Entry{a}, nil)
		woken(t, wakes["first"], "created")
		woken(t, wakes["second"], "created")
		set := wantList(t, r, "web.main", a)
		apply(t, r, "web.main", []registry.Entry{b}, nil)
		woken(t, wakes["first"], "added")
		wantList(t, r, "web.main", a, b)
		apply(t, r, "web.main", nil, set.Nodes)
		woken(t, wakes["first"], "removed")
		wantList(t, r, "web.main", b)
		for tries := 0; len(stopped) > 0; tries++ {
			if tries == 100 {
				t.Fatal("a watch whose context ended still sends")
			}
			time.Sleep(time.Millisecond)
			<-stopped
			apply(t, r, "web.main", []registry.Entry{a}, nil)
			wantList(t, r, "web.main", a, b)
		}
	})

	t.Run("a context that ended is an error", func(t *testing.T) {
		r := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.List(ctx, "web.main"); !errors.Is(err, context.Canceled) {
			t.Errorf("List: %v", err)
		}
		if err := r.Apply(ctx, "web.main", []registry.Entry{a}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Apply: %v", err)
		}
	})
}

func apply(t *testing.T, r registry.Registry, registration string, add []registry.Entry, remove []registry.Node) {
	t.Helper()
	if err := r.Apply(t.Context(), registration, add, remove); err != nil {
		t.Fatalf("Apply(%s, %+v, %+v): %v", registration, add, remove, err)
	}
}

func wantList(t *testing.T, r registry.Registry, registration string, want ...registry.Entry) registry.Set {
	t.Helper()
	set, err := r.List(t.Context(), registration)
	if err != nil {
		t.Fatal(err)
	}
	var got []registry.Entry
	for _, n := range set.Nodes {
		got = append(got, n.Entry)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", registration, diff)
	}
	return set
}

func woken(t *testing.T, wake <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(20 * time.Second):
		t.Fatalf("not woken within 20s: %s", why)
	}
}
