package zk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session is short, so that tests need not wait long for one to expire.
const session = time.Second

func dial(t *testing.T, servers string) *zk.Conn {
	t.Helper()
	return dialFor(t, servers, 10*time.Second)
}

// dialShort is for tests in which sessions expire.
func dialShort(t *testing.T, servers string) *zk.Conn {
	t.Helper()
	return dialFor(t, servers, session)
}

func dialFor(t *testing.T, servers string, timeout time.Duration) *zk.Conn {
	t.Helper()
	c, err := zk.Dial(zk.Options{Servers: servers, Timeout: timeout})
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

// eventually waits until ok returns nil.
func eventually(t *testing.T, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("not within 20s: %v", err)
}

func received(t *testing.T, wake <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing on the wake channel within 20s: %s", why)
	}
}

func TestReadAndWrite(t *testing.T) {
	t.Parallel()
	ctx, c := bounded(t), dial(t, "zk://"+zktest.Start(t).Addr()+"/some/root/")

	if _, _, err := c.Get(ctx, "/a/b"); !errors.Is(err, zk.ErrNoNode) || !strings.Contains(err.Error(), "get /a/b") {
		t.Errorf("get of nothing: %v", err)
	}
	must(t, c.Create(ctx, "/a/b/c", []byte("1")))
	if err := c.Create(ctx, "/a/b/c", nil); !errors.Is(err, zk.ErrNodeExists) {
		t.Errorf("create twice: %v", err)
	}
	data, stat, err := c.Get(ctx, "/a/b/c")
	if err != nil || string(data) != "1" || stat.Version != 0 || stat.DataLength != 1 || stat.Mtime.IsZero() {
		t.Errorf("got %q, %+v, %v", data, stat, err)
	}
	must(t, c.Set(ctx, "/a/b/c", []byte("2"), 0))
	if err := c.Set(ctx, "/a/b/c", []byte("3"), 0); !errors.Is(err, zk.ErrBadVersion) {
		t.Errorf("set of an old version: %v", err)
	}
	must(t, c.Put(ctx, "/a/b/c", []byte("4")))
	must(t, c.Put(ctx, "/x/y", nil))
	if names, stat, err := c.Children(ctx, "/"); err != nil || len(names) != 2 || stat.NumChildren != 2 {
		t.Errorf("children of the root: %v, %+v, %v", names, stat, err)
	}
	must(t, c.DeleteAll(ctx, "/a"))
	must(t, c.DeleteAll(ctx, "/a"))
	must(t, c.Delete(ctx, "/x/y", -1))
	if err := c.Delete(ctx, "/x/y", -1); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("delete twice: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMulti(t *testing.T) {
	t.Parallel()
	ctx, c := bounded(t), dial(t, zktest.Start(t).Addr())
	must(t, c.Create(ctx, "/fence", nil))
	must(t, c.Multi(ctx,
		zk.Fence{Path: "/fence", Version: 0}.Op(),
		zk.Op{Kind: zk.OpCreate, Path: "/a", Data: []byte("1")},
		zk.Op{Kind: zk.OpSet, Path: "/a", Data: []byte("2"), Version: 0},
		zk.Op{Kind: zk.OpCreate, Path: "/b"},
		zk.Op{Kind: zk.OpDelete, Path: "/b", Version: -1}))
	data, _, err := c.Get(ctx, "/a")
	if err != nil || string(data) != "2" {
		t.Errorf("got %q, %v", data, err)
	}

	must(t, c.Set(ctx, "/fence", nil, -1)) // another leader
	err = c.Multi(ctx, zk.Fence{Path: "/fence", Version: 0}.Op(), zk.Op{Kind: zk.OpCreate, Path: "/c"})
	if !errors.Is(err, zk.ErrBadVersion) || !strings.Contains(err.Error(), "op 0, check /fence") {
		t.Errorf("behind a stale fence: %v", err)
	}
	err = c.Multi(ctx, zk.Op{Kind: zk.OpCreate, Path: "/c"}, zk.Op{Kind: zk.OpCreate, Path: "/a"})
	var op *zk.OpError
	if !errors.As(err, &op) || op.Index != 1 || !errors.Is(err, zk.ErrNodeExists) {
		t.Errorf("second op fails: %v", err)
	}
	if _, _, err := c.Get(ctx, "/c"); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("a failed multi left /c: %v", err)
	}
}

func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	nobody := l.Addr().String()
	l.Close()
	c := dialShort(t, nobody)
	start := time.Now()
	_, _, err = c.Get(context.Background(), "/a") // no deadline: the session timeout
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
	if took := time.Since(start); took > 5*session {
		t.Errorf("took %v", took)
	}
	if c.Connected() || c.SessionID() != 0 {
		t.Error("says that it is connected")
	}

	s := zktest.Start(t)
	c = dial(t, s.Addr())
	must(t, c.Create(bounded(t), "/a", nil))
	s.Pause()
	defer s.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Set(ctx, "/a", nil, -1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("frozen server: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Get(ctx, "/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	c.Close()
	if _, _, err := c.Get(t.Context(), "/a"); !errors.Is(err, zk.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestSurvivesARestart(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx, c := bounded(t), dial(t, s.Addr())
	must(t, c.Create(ctx, "/a", []byte("1")))
	sessions, children, data := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	c.Sessions(t.Context(), sessions)
	_, _, err := c.WatchChildren(ctx, "/", children)
	must(t, err)
	_, _, err = c.WatchData(ctx, "/a", data)
	must(t, err)

	s.Restart()
	received(t, sessions, "the server was restarted")
	received(t, children, "a reconnect may have lost the watch")
	received(t, data, "a reconnect may have lost the watch")
	if got, _, err := c.Get(ctx, "/a"); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	p := zktest.NewPartition(t, s)
	ctx, c, witness := bounded(t), dialShort(t, p.Addr()), dial(t, s.Addr())
	must(t, c.CreateEphemeral(ctx, "/me/here", []byte("1")))
	first := c.SessionID()
	sessions := make(chan struct{}, 1)
	c.Sessions(t.Context(), sessions)

	p.Cut()
	eventually(t, func() error {
		if _, _, err := witness.Get(ctx, "/me/here"); !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("the session still lives: %w", err)
		}
		return nil
	})
	if c.Connected() {
		t.Error("says that it is connected")
	}
	p.Heal()
	received(t, sessions, "the server answers again")
	eventually(t, func() error {
		id := c.SessionID()
		if id == 0 || id == first {
			return fmt.Errorf("session %x, first was %x", id, first)
		}
		return nil
	})
	must(t, c.CreateEphemeral(ctx, "/me/here", []byte("2")))
	if data, stat, err := c.Get(ctx, "/me/here"); err != nil || string(data) != "2" || stat.EphemeralOwner != c.SessionID() {
		t.Errorf("got %q, %+v, %v", data, stat, err)
	}
}

// A partition that the session survives: what happened meanwhile is known within
// a second of its end, and not only once the kernel sends again.
func TestPartition(t *testing.T) {
	t.Parallel()
	if !paastatest.InNamespace(t) {
		return
	}
	s := zktest.Start(t)
	p := zktest.NewPartition(t, s)
	ctx, c, witness := bounded(t), dial(t, p.Addr()), dial(t, s.Addr())
	must(t, c.CreateEphemeral(ctx, "/me", nil))
	id := c.SessionID()
	wake := make(chan struct{}, 1)
	var late time.Duration
	for range 3 { // the machine may be slow once, the kernel's pauses are every time
		eventually(t, func() error {
			_, _, err := c.WatchChildren(ctx, "/", wake)
			return err
		})
		for len(wake) > 0 {
			<-wake
		}
		p.Drop()
		must(t, witness.Create(ctx, fmt.Sprint("/", time.Now().UnixNano()), nil))
		time.Sleep(4500 * time.Millisecond)
		p.Heal()
		begin := time.Now()
		received(t, wake, "a child came")
		if late = time.Since(begin); late < time.Second {
			break
		}
		t.Logf("the event came %s after the partition", late)
	}
	if late >= time.Second {
		t.Errorf("the event came %s after the partition", late)
	}
	eventually(t, func() error {
		if now := c.SessionID(); now != id {
			return fmt.Errorf("session %x became %x", id, now)
		}
		return nil
	})
}

func TestCreateEphemeral(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx, old, c := bounded(t), dial(t, s.Addr()), dial(t, s.Addr())
	must(t, old.CreateEphemeral(ctx, "/a/b", []byte("old")))
	must(t, c.CreateEphemeral(ctx, "/a/b", []byte("new")))
	must(t, c.CreateEphemeral(ctx, "/a/b", []byte("newer")))
	old.Close()
	data, stat, err := c.Get(ctx, "/a/b")
	if err != nil || string(data) != "newer" || stat.EphemeralOwner != c.SessionID() {
		t.Errorf("got %q, %+v, %v", data, stat, err)
	}
	if err := c.CreateEphemeral(ctx, "/a", nil); !errors.Is(err, zk.ErrNodeExists) {
		t.Errorf("over a persistent node: %v", err)
	}
	one, err := c.CreateEphemeralSequential(ctx, "/q/n-", nil)
	must(t, err)
	two, err := c.CreateEphemeralSequential(ctx, "/q/n-", nil)
	must(t, err)
	if !strings.HasPrefix(one, "/q/_c_") || one[len(one)-10:] >= two[len(two)-10:] {
		t.Errorf("got %s and then %s", one, two)
	}
	other := dial(t, s.Addr())
	c.Close()
	if names, _, err := other.Children(ctx, "/q"); err != nil || len(names) != 0 {
		t.Errorf("after Close there are still %v, %v", names, err)
	}
}

func TestWatches(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx, c := bounded(t), dial(t, s.Addr())
	wake := make(chan struct{}, 1)
	watch := func() ([]string, error) {
		names, _, err := c.WatchChildren(ctx, "/r", wake)
		return names, err
	}
	if _, err := watch(); !errors.Is(err, zk.ErrNoNode) {
		t.Fatalf("no such node: %v", err)
	}
	must(t, c.Create(ctx, "/r", nil))
	received(t, wake, "it was created")
	if names, err := watch(); err != nil || len(names) != 0 {
		t.Fatalf("empty: %v, %v", names, err)
	}
	other := make(chan struct{}, 1)
	_, _, err := c.WatchChildren(ctx, "/r", other)
	must(t, err)
	must(t, c.Create(ctx, "/r/a", nil))
	received(t, wake, "a child came")
	received(t, other, "a child came, the second to ask")
	if names, err := watch(); err != nil || len(names) != 1 {
		t.Fatalf("one child: %v, %v", names, err)
	}
	must(t, c.DeleteAll(ctx, "/r"))
	received(t, wake, "all is gone")

	data := make(chan struct{}, 1)
	if _, _, err := c.WatchData(ctx, "/d", data); !errors.Is(err, zk.ErrNoNode) {
		t.Fatal(err)
	}
	must(t, c.Create(ctx, "/d", nil))
	received(t, data, "it was created")
	for range 5 { // again, without an event: still one watch
		_, _, err = c.WatchData(ctx, "/d", data)
		must(t, err)
	}
	if answer, err := s.Command("wchs"); err != nil || !strings.Contains(answer, "Total watches:1") {
		t.Errorf("wchs: %q, %v", answer, err)
	}
	must(t, c.Set(ctx, "/d", []byte("x"), -1))
	received(t, data, "its data changed")
}

// A member of the ensemble that freezes costs a while, not the session.
func TestEnsembleLosesAMember(t *testing.T) {
	t.Parallel()
	servers := zktest.StartEnsemble(t)
	c, err := zk.Dial(zk.Options{Servers: zktest.Addrs(servers), Timeout: 6 * time.Second})
	must(t, err)
	defer c.Close()
	ctx := bounded(t)
	must(t, c.CreateEphemeral(ctx, "/a", nil))
	id := c.SessionID()
	servers[0].Stop()
	eventually(t, func() error { return c.Put(ctx, "/b", nil) })
	servers[0].Restart()
	servers[1].Pause()
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return c.Put(ctx, "/b", nil)
	})
	servers[1].Resume()
	if c.SessionID() != id {
		t.Errorf("session %x became %x", id, c.SessionID())
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx := bounded(t)
	c, err := zk.Dial(zk.Options{Servers: s.Addr(), Auth: "us:secret"})
	must(t, err)
	defer c.Close()
	stranger := dial(t, s.Addr())
	must(t, c.Create(ctx, "/ours/a", []byte("1")))
	if data, _, err := stranger.Get(ctx, "/ours/a"); err != nil || string(data) != "1" {
		t.Errorf("the world reads %q, %v", data, err)
	}
	if err := stranger.Set(ctx, "/ours/a", nil, -1); err == nil {
		t.Error("the world writes")
	}
	if err := stranger.Create(ctx, "/ours/b", nil); err == nil {
		t.Error("the world creates")
	}
	wake := make(chan struct{}, 1)
	c.Sessions(t.Context(), wake)
	s.Restart()
	received(t, wake, "the server was restarted")
	must(t, c.Set(ctx, "/ours/a", []byte("2"), -1)) // authenticated again
}

func TestDialRefusesWhatCanNeverWork(t *testing.T) {
	t.Parallel()
	for _, o := range []zk.Options{
		{},
		{Servers: "zk://"},
		{Servers: ","},
		{Servers: "zk://user:pw@h:2181/root"},
		{Servers: "h:2181", Auth: "nocolon"},
		{Servers: "h:2181", Timeout: -1},
	} {
		if c, err := zk.Dial(o); err == nil {
			c.Close()
			t.Errorf("Dial(%+v) works", o)
		}
	}
}

// What ZooKeeper has seen less of than its client, it refuses for ever: a server
// that lost its data, or was restored from a backup.
func TestLostData(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*zktest.Server) (func(), int){
		"wiped": func(s *zktest.Server) (func(), int) { return s.Wipe, 0 },
		"restored from an older backup": func(s *zktest.Server) (func(), int) {
			return s.Backup(), 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := zktest.Start(t)
			var said lockedBuffer
			c, err := zk.Dial(zk.Options{Servers: server.Addr(), Timeout: session, Auth: "paasta:secret", Log: slog.New(slog.NewTextHandler(&said, nil))})
			must(t, err)
			t.Cleanup(c.Close)
			ctx := bounded(t)
			must(t, c.Create(ctx, "/data/kept", nil))
			lost, kept := lose(server)
			eventually(t, func() error { return c.Create(ctx, "/data/lost", nil) })
			for range 100 {
				must(t, c.Put(ctx, "/data/lost", nil)) // so that the new data are behind for long
			}
			must(t, c.CreateEphemeral(ctx, "/data/ephemeral", nil))
			wake := make(chan struct{}, 1)
			c.Sessions(ctx, wake)
			watch := make(chan struct{}, 1)
			_, _, err = c.WatchChildren(ctx, "/data", watch)
			must(t, err)

			before := strings.Count(said.String(), "refuses the session")
			lost()
			received(t, wake, "there is a session again")
			received(t, watch, "the watch was lost")
			must(t, c.CreateEphemeral(ctx, "/data/ephemeral", []byte("again")))
			names, _, err := c.Children(ctx, "/data")
			if err != nil || len(names) != kept+1 {
				t.Errorf("/data has %v, %v", names, err)
			}
			if n := strings.Count(said.String(), "refuses the session") - before; n != 1 {
				t.Errorf("said %d times that the session is refused:\n%s", n, said.String())
			}
		})
	}
}

// A server that is down, and comes back with its data, gets its session back
// however long that took: its ephemerals stay.
func TestSessionSurvivesALongOutage(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	c, ctx := dialShort(t, server.Addr()), bounded(t)
	must(t, c.CreateEphemeral(ctx, "/mine", nil))
	id := c.SessionID()
	server.Stop()
	time.Sleep(2 * session)
	server.Restart()
	eventually(t, func() error {
		if got := c.SessionID(); got != id {
			return fmt.Errorf("session %d, want %d", got, id)
		}
		return nil
	})
}

// A lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What others made, or left open, is ours to change alone afterwards.
func TestRestrict(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx := bounded(t)
	stranger := dial(t, s.Addr())
	must(t, stranger.Create(ctx, "/old/a/b", []byte("1")))
	if err := stranger.Restrict(ctx, "/"); err == nil {
		t.Error("who has no credentials restricts the tree, and shuts out all")
	}
	c, err := zk.Dial(zk.Options{Servers: s.Addr(), Auth: "us:secret"})
	must(t, err)
	defer c.Close()
	must(t, c.Create(ctx, "/ours", nil))
	for range 2 {
		must(t, c.Restrict(ctx, "/"))
	}
	for _, path := range []string{"/new", "/old/new", "/old/a/new", "/ours/new", "/zookeeper/new", "/zookeeper/quota/new"} {
		if err := stranger.Create(ctx, path, nil); !errors.Is(err, zk.ErrForbidden) {
			t.Errorf("a stranger creates %s: %v", path, err)
		}
	}
	for _, path := range []string{"/old/a/b", "/ours"} {
		if err := stranger.Delete(ctx, path, -1); !errors.Is(err, zk.ErrForbidden) {
			t.Errorf("a stranger deletes %s: %v", path, err)
		}
	}
	must(t, c.Put(ctx, "/old/a/b", []byte("2")))
	must(t, c.Create(ctx, "/new", nil))
}
