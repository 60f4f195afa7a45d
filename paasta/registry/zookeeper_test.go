package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/registry/registrytest"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFake(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, func(*testing.T) registry.Registry { return new(registrytest.Fake) })
}

func TestZooKeeper(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	n := 0
	registrytest.Run(t, func(t *testing.T) registry.Registry {
		n++
		return registry.NewZooKeeper(dial(t, s.Addr()+"/"+strconv.Itoa(n)))
	})
}

func dial(t *testing.T, servers string) *zk.Conn {
	t.Helper()
	return dialFor(t, servers, 10*time.Second)
}

func dialFor(t *testing.T, servers string, session time.Duration) *zk.Conn {
	t.Helper()
	c, err := zk.Dial(zk.Options{Servers: servers, Timeout: session})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var web = registry.Entry{Host: "10.0.0.1", Port: 31000, Weight: 10}

// Nodes in nerve's plain form are read too, and what is no entry is told apart
// from what is.
func TestReadsBothEncodings(t *testing.T) {
	t.Parallel()
	ctx, c := bounded(t), dial(t, zktest.Start(t).Addr())
	const dir = registry.Root + "/web.main"
	must(t, c.Create(ctx, dir+"/testhost_0000000001", []byte(`{"host":"127.0.0.1","port":18002,"name":"testhost","weight":3}`)))
	must(t, c.Create(ctx, dir+"/base64_9_broken_1", []byte(`{"host":"127.0.0.2","port":18002}`))) // nerve's fallback: too long a name
	bad := map[string][]byte{
		dir + "/empty_0000000002":             nil,
		dir + "/text_0000000003":              []byte("hello"),
		dir + "/huge_0000000004":              []byte(`"` + strings.Repeat("x", 900_000) + `"`),
		dir + "/evil_0000000005":              []byte(`{"host":"a\n  server b 10.0.0.1:1","port":1}`),
		dir + "/base64_4_e30=_0000000000":     nil,
		dir + "/control\u00e9\u4e16_00000006": []byte("\x00\x01\xff"),
	}
	for p, data := range bad {
		must(t, c.Create(ctx, p, data))
	}
	r := registry.NewZooKeeper(c)
	must(t, r.Apply(ctx, "web.main", []registry.Entry{web}, nil))
	set, err := r.List(ctx, "web.main")
	if err != nil || len(set.Nodes) != 3 {
		t.Fatalf("got %+v, %v", set.Nodes, err)
	}
	if n := set.Nodes[1]; n.Host != "127.0.0.1" || n.Weight != 3 || n.Name != "testhost" || n.Czxid == 0 {
		t.Errorf("plain node: %+v", n)
	}
	for p := range bad {
		if set.Bad[p] == nil {
			t.Errorf("%s is not among the bad", p)
		}
	}
	if len(set.Bad) != len(bad) {
		t.Errorf("bad: %v", set.Bad)
	}
	// Data is stored as well, as nerve does.
	data, _, err := c.Get(ctx, dir+"/"+registry.NodeName(web, 7))
	if err != nil || string(data) != string(registry.Encode(web)) {
		t.Errorf("data %q, %v", data, err)
	}
}

func TestFencedApply(t *testing.T) {
	t.Parallel()
	ctx, c := bounded(t), dial(t, zktest.Start(t).Addr())
	must(t, c.Create(ctx, "/leader", nil))
	all := registry.NewZooKeeper(c)
	r := all.Fenced(zk.Fence{Path: "/leader"})
	must(t, r.Apply(ctx, "web.main", []registry.Entry{web}, nil))
	must(t, c.Delete(ctx, "/leader", -1))
	other := web
	other.Port++
	if err := r.Apply(ctx, "web.main", []registry.Entry{other}, nil); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("without leadership: %v", err)
	}
	if set, err := all.List(ctx, "web.main"); err != nil || len(set.Nodes) != 1 {
		t.Errorf("got %+v, %v", set.Nodes, err)
	}
}

// More than fits into one transaction.
func TestApplyMany(t *testing.T) {
	t.Parallel()
	ctx, c := bounded(t), dial(t, zktest.Start(t).Addr())
	r := registry.NewZooKeeper(c)
	var many []registry.Entry
	for port := range 2000 {
		many = append(many, registry.Entry{Host: "10.0.0.1", Port: 1 + port, Weight: 10, Labels: map[string]string{registry.LabelTaskID: strings.Repeat("x", 200)}})
	}
	must(t, r.Apply(ctx, "web.main", many, nil))
	set, err := r.List(ctx, "web.main")
	if err != nil || len(set.Nodes) != len(many) {
		t.Fatalf("%d nodes, %v", len(set.Nodes), err)
	}
	must(t, r.Apply(ctx, "web.main", nil, set.Nodes))
	if set, err := r.List(ctx, "web.main"); err != nil || len(set.Nodes) != 0 {
		t.Errorf("%d nodes, %v", len(set.Nodes), err)
	}
}

// A watcher hears of what changed while ZooKeeper was away, also when that was
// so long that the session is another one.
func TestWatchSurvivesExpiry(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx := bounded(t)
	reader := registry.NewZooKeeper(dialFor(t, s.Addr(), time.Second))
	writer := registry.NewZooKeeper(dialFor(t, s.Addr(), time.Second))
	must(t, writer.Apply(ctx, "web.main", []registry.Entry{web}, nil))
	wake := make(chan struct{}, 1)
	must(t, reader.Watch(t.Context(), "web.main", registrytest.Send(wake)))

	listed := func() int {
		for {
			set, err := reader.List(ctx, "web.main")
			if err == nil {
				return len(set.Nodes)
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	if n := listed(); n != 1 {
		t.Fatalf("%d nodes", n)
	}
	for round := range 3 {
		switch round {
		case 0: // frozen for longer than the session
			s.Pause()
			time.Sleep(1500 * time.Millisecond)
			s.Resume()
		case 1:
			s.Restart()
		}
		next := web
		next.Port += 1 + round
		must(t, retry(ctx, func() error { return writer.Apply(ctx, "web.main", []registry.Entry{next}, nil) }))
		for want := round + 2; listed() != want; {
			select {
			case <-wake:
			case <-ctx.Done():
				t.Fatalf("round %d: not woken, and there should be %d nodes", round, want)
			}
		}
	}
}

func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	p := zktest.NewPartition(t, s)
	ctx, c, other := bounded(t), dialFor(t, p.Addr(), time.Second), dial(t, s.Addr())
	z := registry.NewZooKeeper(c)
	keeping, cancel := context.WithCancel(ctx)
	done, told := make(chan error, 1), make(chan error, 100)
	go func() { done <- z.Ephemeral(keeping, "db.main", web, func(err error) { told <- err }) }()
	if err := <-told; err != nil {
		t.Errorf("told %v first, want that it is there", err)
	}

	r := registry.NewZooKeeper(other)
	want := func(n int, why string) registry.Set {
		t.Helper()
		for {
			set, err := r.List(ctx, "db.main")
			if err == nil && len(set.Nodes) == n {
				return set
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: want %d nodes, got %+v, %v", why, n, set.Nodes, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	set := want(1, "registered")
	owner := func() string {
		_, stat, err := other.Get(ctx, set.Nodes[0].Path)
		return fmt.Sprintf("%x %v", stat.EphemeralOwner, err)
	}
	first := owner()
	must(t, other.Delete(ctx, set.Nodes[0].Path, -1))
	want(1, "somebody deleted it")
	p.Cut()
	want(0, "the session expires")
	p.Heal()
	want(1, "the session expired")
	for owner() == first {
		if ctx.Err() != nil {
			t.Fatal("still owned by the session that expired")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	must(t, <-done)
	want(0, "taken out")

	if err := z.Ephemeral(ctx, "db.main", registry.Entry{Host: "a b"}, func(error) {}); err == nil {
		t.Error("registered a host with a space")
	}
}

// A node that we may not read is one bad entry, and not a registration that
// nobody can follow any more.
func TestNodesThatAreForbidden(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	conn := dial(t, s.Addr())
	ctx := bounded(t)
	const dir = registry.Root + "/web.main/"
	z := registry.NewZooKeeper(conn)
	old := registry.Entry{Host: "10.0.0.1", Port: 1, Name: "h", Weight: 1}
	same := registry.Entry{Host: "10.0.0.1", Port: 1, Name: "h", Weight: 2}
	must(t, z.Apply(ctx, "web.main", []registry.Entry{old, same}, nil))
	must(t, conn.Create(ctx, dir+"h_0000000001", []byte(`{"host":"10.0.0.2","port":1}`)))
	must(t, conn.Create(ctx, dir+"h_0000000002", []byte(`{"host":"10.0.0.3","port":1}`)))
	s.Hide(dir + "h_0000000001")
	s.Hide(dir + registry.NodeName(old, 0))
	set, err := z.List(ctx, "web.main")
	must(t, err)
	if len(set.Nodes) != 3 || len(set.Bad) != 1 || !errors.Is(set.Bad[dir+"h_0000000001"], zk.ErrForbidden) {
		t.Errorf("%+v", set)
	}
}

func BenchmarkDecode(b *testing.B) {
	e := web
	e.Labels = map[string]string{"region:r1": "", "habitat:h": "", registry.LabelCluster: "c", registry.LabelTaskID: strings.Repeat("t", 60)}
	text := registry.Encode(e)
	for b.Loop() {
		if _, err := registry.Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

// A reader that watches decodes only what is new, and sees what one sees that
// reads for the first time.
func TestWatchedReadsAreWhole(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	conn := dial(t, s.Addr())
	ctx := bounded(t)
	watching := registry.NewZooKeeper(conn)
	must(t, watching.Watch(ctx, "web.main", func() {}))
	entry := func(port, weight int) registry.Entry {
		return registry.Entry{Host: "10.0.0.1", Port: port, Name: "h", Weight: weight, Labels: map[string]string{"region:x": ""}}
	}
	node := func(e registry.Entry) registry.Node {
		set, err := registry.NewZooKeeper(conn).List(ctx, "web.main")
		must(t, err)
		n := slices.IndexFunc(set.Nodes, func(n registry.Node) bool { return cmp.Equal(n.Entry, e) })
		if n < 0 {
			t.Fatalf("%+v is not registered", e)
		}
		return set.Nodes[n]
	}
	for i, change := range []func() error{
		func() error {
			return watching.Apply(ctx, "web.main", []registry.Entry{entry(1, 10), entry(2, 10), entry(3, 10)}, nil)
		},
		func() error { return nil },
		func() error {
			return watching.Apply(ctx, "web.main", []registry.Entry{entry(1, 5)}, []registry.Node{node(entry(1, 10))})
		},
		func() error { return watching.Apply(ctx, "web.main", []registry.Entry{entry(1, 7)}, nil) }, // two at one address
		func() error { return watching.Apply(ctx, "web.main", nil, []registry.Node{node(entry(1, 5))}) },
		func() error { return conn.Create(ctx, registry.Root+"/web.main/plain", registry.Encode(entry(4, 1))) },
		func() error { return conn.Set(ctx, registry.Root+"/web.main/plain", registry.Encode(entry(4, 2)), -1) },
		func() error { return conn.Create(ctx, registry.Root+"/web.main/bad", []byte("x")) },
		func() error { return conn.DeleteAll(ctx, registry.Root+"/web.main") },
		func() error { return watching.Apply(ctx, "web.main", []registry.Entry{entry(1, 10)}, nil) },
	} {
		must(t, change())
		got, err := watching.List(ctx, "web.main")
		must(t, err)
		want, err := registry.NewZooKeeper(conn).List(ctx, "web.main")
		must(t, err)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() }), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after change %d (-first +again):\n%s", i, diff)
		}
		again, err := watching.List(ctx, "web.main")
		must(t, err)
		if i == 2 && &again.Nodes[0] != &got.Nodes[0] {
			t.Error("what has not changed is read anew")
		}
	}
}

// A service that goes while ZooKeeper is away, for less than the session lasts,
// is not in the registry when ZooKeeper is back.
func TestEphemeralGoesAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	p := zktest.NewPartition(t, s)
	ctx, c := bounded(t), dialFor(t, p.Addr(), 15*time.Second)
	z := registry.NewZooKeeper(c)
	keeping, cancel := context.WithCancel(ctx)
	done, there := make(chan error, 1), make(chan error, 100)
	go func() { done <- z.Ephemeral(keeping, "db.main", web, func(err error) { there <- err }) }()
	must(t, <-there)
	session := c.SessionID()
	p.Cut()
	for c.Connected() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case <-done:
		t.Error("it gave up")
	case <-time.After(2500 * time.Millisecond): // longer than a try
	}
	p.Heal()
	select {
	case err := <-done:
		must(t, err)
	case <-ctx.Done():
		t.Fatal("it does not end")
	}
	if set, err := z.List(ctx, "db.main"); err != nil || len(set.Nodes) != 0 {
		t.Errorf("the registry holds %+v, %v", set.Nodes, err)
	}
	if c.SessionID() != session {
		t.Error("the session expired, so this test has shown nothing")
	}
}

// An entry that is kept twice stays, without a gap, until nobody keeps it.
func TestEphemeralIsKeptByTheLast(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx, c := bounded(t), dial(t, s.Addr())
	z := registry.NewZooKeeper(c)
	keep := func() (end func()) {
		keeping, cancel := context.WithCancel(ctx)
		done, there := make(chan error, 1), make(chan error, 100)
		go func() { done <- z.Ephemeral(keeping, "db.main", web, func(err error) { there <- err }) }()
		must(t, <-there)
		return func() { cancel(); must(t, <-done) }
	}
	first := keep()
	before, err := z.List(ctx, "db.main")
	must(t, err)
	second := keep()
	first()
	after, err := z.List(ctx, "db.main")
	must(t, err)
	if len(after.Nodes) != 1 || after.Version != before.Version {
		t.Errorf("after the first has gone: %+v, want what was there: %+v", after, before)
	}
	second()
	if set, err := z.List(ctx, "db.main"); err != nil || len(set.Nodes) != 0 {
		t.Errorf("after both have gone: %+v, %v", set.Nodes, err)
	}
}
