package zk_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

const dir = "/paasta/c/leader"

// A member runs for leadership in the background and says how it went.
type member struct {
	conn   *zk.Conn
	leads  atomic.Bool
	terms  atomic.Int32
	fences chan zk.Fence
	stop   context.CancelFunc
	done   chan struct{}
}

func run(t *testing.T, conn *zk.Conn, name string, leading *atomic.Int32, gone ...func([]byte) bool) *member {
	t.Helper()
	m := &member{conn: conn, fences: make(chan zk.Fence, 100), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	m.stop = cancel
	l := &zk.Leader{Conn: m.conn, Dir: dir, Data: []byte(name)}
	for _, f := range gone {
		l.Gone = f
	}
	go func() {
		defer close(m.done)
		err := l.Lead(ctx, func(ctx context.Context, f zk.Fence) error {
			if n := leading.Add(1); n != 1 {
				t.Errorf("%s: %d lead at a time", name, n)
			}
			defer leading.Add(-1)
			m.leads.Store(true)
			defer m.leads.Store(false)
			m.terms.Add(1)
			m.fences <- f
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil {
			t.Errorf("Lead returned %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-m.done
	})
	return m
}

func TestLeadership(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	ctx := bounded(t)
	var leading atomic.Int32
	a := run(t, dial(t, s.Addr()), "a", &leading)
	fence := <-a.fences
	var afterwards atomic.Int32 // a does not know at once that it is dead
	b := run(t, dial(t, s.Addr()), "b", &afterwards)
	must(t, a.conn.Multi(ctx, fence.Op(), zk.Op{Kind: zk.OpCreate, Path: "/by-a"}))
	if data, err := zk.CurrentLeader(ctx, b.conn, dir); err != nil || string(data) != "a" {
		t.Errorf("leader is %q, %v", data, err)
	}
	// Close in the middle of work: as if a had been killed.
	a.conn.Close()
	<-b.fences
	err := b.conn.Multi(ctx, fence.Op(), zk.Op{Kind: zk.OpCreate, Path: "/late"})
	if !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("with the fence of the old leader: %v", err)
	}
	b.stop()
	<-b.done
	c := dial(t, s.Addr())
	if _, err := zk.CurrentLeader(ctx, c, dir); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("nobody runs, leader: %v", err)
	}
}

// With ZooKeeper frozen the leader stops before its session can be over, and
// leads again once ZooKeeper answers.
func TestLeaderStopsWhenItCannotConfirm(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	var leading atomic.Int32
	m := run(t, dialShort(t, s.Addr()), "a", &leading)
	<-m.fences
	s.Pause()
	start := time.Now()
	eventually(t, func() error {
		if m.leads.Load() {
			return fmt.Errorf("still leads after %v", time.Since(start))
		}
		return nil
	})
	if took := time.Since(start); took > session {
		t.Errorf("stopped after %v, the session is %v", took, session)
	}
	s.Resume()
	<-m.fences
}

// A short outage ends nobody's leadership.
func TestLeaderOutlivesAShortFreeze(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	var leading atomic.Int32
	c, err := zk.Dial(zk.Options{Servers: s.Addr(), Timeout: 20 * time.Second})
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fences, done := make(chan zk.Fence, 1), make(chan struct{})
	go func() {
		defer close(done)
		_ = (&zk.Leader{Conn: c, Dir: dir}).Lead(ctx, func(ctx context.Context, f zk.Fence) error {
			leading.Add(1)
			fences <- f
			<-ctx.Done()
			return nil
		})
	}()
	<-fences
	s.Restart()
	eventually(t, func() error { return c.Put(t.Context(), "/x", nil) })
	if n := leading.Load(); n != 1 {
		t.Errorf("%d terms, want 1", n)
	}
	cancel()
	<-done
}

// Work that ends by itself leads again, not at once and not never.
func TestLeaderRunsAgain(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	c := dial(t, s.Addr())
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	terms := 0
	start := time.Now()
	err := (&zk.Leader{Conn: c, Dir: dir}).Lead(ctx, func(context.Context, zk.Fence) error {
		if terms++; terms == 3 {
			cancel()
		}
		return errors.New("broken")
	})
	if err != nil || terms != 3 {
		t.Errorf("%d terms, %v", terms, err)
	}
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("three terms in %v: no back-off", took)
	}
}

// A candidate whose process is gone is removed at once, and one of which that is
// not certain never is.
func TestLeaderIsGone(t *testing.T) {
	t.Parallel()
	s := zktest.Start(t)
	var leading, afterwards atomic.Int32
	a := run(t, dial(t, s.Addr()), "a", &leading)
	old := <-a.fences

	var gone atomic.Bool
	looks := make(chan string)
	b := run(t, dial(t, s.Addr()), "b", &afterwards, func(data []byte) bool {
		select {
		case looks <- string(data):
		case <-t.Context().Done():
		}
		return gone.Load()
	})
	for range 3 {
		if who := <-looks; who != "a" {
			t.Errorf("looked at %q, want a", who)
		}
		if b.leads.Load() {
			t.Fatal("a leader that may live was robbed")
		}
	}
	gone.Store(true)
	<-looks
	<-b.fences
	// What the dead one had sent and ZooKeeper had not done yet comes too late.
	err := b.conn.Multi(bounded(t), old.Op(), zk.Op{Kind: zk.OpCreate, Path: "/late"})
	if !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("with the fence of the old leader: %v", err)
	}
}
