package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

// world is a real ZooKeeper with a registry in it, and an operator's own
// connection to it.
type world struct {
	t    testing.TB
	zk   *zktest.Server
	conn *zk.Conn // the agent's
	reg  *registry.ZooKeeper
	ops  *zk.Conn
}

func newWorld(t testing.TB) *world {
	t.Helper()
	server := zktest.Start(t)
	w := &world{t: t, zk: server}
	w.conn, w.ops = w.dial(), w.dial()
	w.reg = registry.NewZooKeeper(w.conn)
	return w
}

func (w *world) dial() *zk.Conn {
	w.t.Helper()
	conn, err := zk.Dial(zk.Options{Servers: w.zk.Addr(), Timeout: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	return conn
}

// put makes entries all that a registration has, in one transaction.
func (w *world) put(name string, entries ...registry.Entry) {
	w.t.Helper()
	eventually(w.t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		r := registry.NewZooKeeper(w.ops)
		old, err := r.List(ctx, name)
		if err != nil {
			return err
		}
		want := map[string]bool{}
		for _, e := range entries {
			want[string(registry.Encode(e))] = true
		}
		var remove []registry.Node
		for _, n := range old.Nodes {
			if !want[string(registry.Encode(n.Entry))] {
				remove = append(remove, n)
			}
		}
		return r.Apply(ctx, name, entries, remove)
	})
}

func (w *world) wipe() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.ops.DeleteAll(ctx, "/smartstack"); err != nil {
		w.t.Fatal(err)
	}
}

// unharmed fails the test if a request failed.
func unharmed(t *testing.T, sent int64, failures []string) {
	t.Helper()
	t.Logf("%d requests, %d failed", sent, len(failures))
	if sent == 0 {
		t.Error("no requests were sent")
	}
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(failures), sent, strings.Join(failures[:min(3, len(failures))], "\n"))
	}
}

func TestMembership(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	w.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	reloads := h.reloads()
	stop := load(t, h.url("web.main"), 4)
	for range 3 {
		w.put("web.main", a.entry(), b.entry(), c.entry())
		h.up("web.main", a.port, b.port, c.port)
		w.put("web.main", a.entry(weight(0)), b.entry(), c.entry())
		h.up("web.main", b.port, c.port)
		w.put("web.main", a.entry(weight(20)), b.entry(), c.entry())
		h.up("web.main", a.port, b.port, c.port)
		w.put("web.main", a.entry(), b.entry(), c.entry(func(e *registry.Entry) { e.ServerOptions = "maxconn 7" }))
		eventually(t, func() error {
			if text := h.config(); !strings.Contains(text, "maxconn 7") {
				return fmt.Errorf("the option is not in the file:\n%s", text)
			}
			return nil
		})
		h.up("web.main", a.port, b.port, c.port)
		w.put("web.main", a.entry(), b.entry())
		h.up("web.main", a.port, b.port)
	}
	sent, failures := stop()
	unharmed(t, sent, failures)
	if got := h.reloads(); got != reloads {
		t.Errorf("%d reloads: %s", got-reloads, h.agent.Status().HAProxy.LastReloadWhy)
	}
}

func TestProbesBeforeItAdds(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, sick := newBackend(t), newBackend(t)
	sick.sick.Store(true)
	w.put("web.main", a.entry(), sick.entry())
	h.start()
	h.up("web.main", a.port)
	h.probing("web.main", sick.port, "503")
	sick.sick.Store(false)
	h.up("web.main", a.port, sick.port)
}

func TestServesBeforeZooKeeperAnswers(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	w.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	h.stop()
	if err := h.options.Process.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.zk.Stop()
	began := time.Now()
	h.start()
	h.up("web.main", a.port, b.port)
	if answer, _ := h.agent.Backends(t.Context(), "web.main", -1); answer.StaleSince == nil || answer.StaleSince.Before(began) {
		t.Errorf("the registry has not answered since %v, want a time since %s", answer.StaleSince, began)
	}
	stop := load(t, h.url("web.main"), 2)
	time.Sleep(100 * time.Millisecond)
	sent, failures := stop()
	unharmed(t, sent, failures)
	w.zk.Restart()
	w.put("web.main", a.entry())
	h.up("web.main", a.port)
}

func TestKeepsServingWhateverTheRegistryDoes(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	w.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	stop := load(t, h.url("web.main"), 4)

	w.wipe()
	eventually(t, func() error {
		if s := h.agent.Status().Registrations[0]; s.Held != 2 {
			return fmt.Errorf("held: %+v", s)
		}
		return nil
	})
	h.up("web.main", a.port, b.port)
	w.put("web.main", a.entry(), b.entry())
	eventually(t, func() error {
		if s := h.agent.Status().Registrations[0]; s.Held != 0 {
			return fmt.Errorf("held: %+v", s)
		}
		return nil
	})

	session := w.conn.SessionID()
	w.zk.Pause()
	eventually(t, func() error {
		if w.conn.Connected() {
			return fmt.Errorf("connected")
		}
		return nil
	})
	h.up("web.main", a.port, b.port)
	time.Sleep(1500 * time.Millisecond) // longer than a session
	w.zk.Resume()
	w.put("web.main", a.entry(), b.entry(), c.entry())
	h.up("web.main", a.port, b.port, c.port)
	t.Logf("session %x, then %x", session, w.conn.SessionID())

	w.zk.Stop()
	w.zk.Restart()
	w.put("web.main", b.entry(), c.entry())
	h.up("web.main", b.port, c.port)
	sent, failures := stop()
	unharmed(t, sent, failures)
}

func TestAHeldServerThatDiesGoes(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	w.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	w.wipe()
	b.srv.Close()
	h.up("web.main", a.port)
}

func TestAdoptsHAProxy(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	h.service("empty.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	w.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	pid := h.agent.Status().HAProxy.PID
	stop := load(t, h.url("web.main"), 4)
	for _, cache := range []bool{true, false} {
		h.stop()
		if !cache {
			os.Remove(filepath.Join(h.options.Process.Dir, "cache.json"))
		}
		// Sick for now: what HAProxy has already needs no probe.
		a.sick.Store(true)
		w.put("web.main", a.entry(), b.entry(), c.entry())
		h.start()
		h.up("web.main", a.port, b.port, c.port)
		a.sick.Store(false)
		w.put("web.main", a.entry(), b.entry())
		h.up("web.main", a.port, b.port)
		if s := h.agent.Status().HAProxy; s.PID != pid || s.Reloads != 0 {
			t.Errorf("cache %v: HAProxy %d with %d reloads (%s), want %d and none", cache, s.PID, s.Reloads, s.LastReloadWhy, pid)
		}
	}
	sent, failures := stop()
	unharmed(t, sent, failures)
}

func TestHAProxyIsKilled(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	w.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	w.put("web.main", a.entry(), b.entry())
	h.up("web.main", a.port, b.port)
	for range 2 {
		pid := h.agent.Status().HAProxy.PID
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if now := h.agent.Status().HAProxy.PID; now == pid || now == 0 {
				return fmt.Errorf("pid %d", now)
			}
			return nil
		})
		h.up("web.main", a.port, b.port)
	}
}

func TestManyReloads(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.options.MinInterval = time.Millisecond
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	n := 30
	if testing.Short() {
		n = 10
	}
	stop := load(t, h.url("web.main"), 4)
	for i := range n {
		before := h.reloads()
		h.service("other.main", nil)
		h.service("web.main", timeouts(time.Duration(5000+i)*time.Millisecond))
		eventually(t, func() error {
			if h.reloads() == before {
				return fmt.Errorf("no reload")
			}
			return nil
		})
	}
	sent, failures := stop()
	unharmed(t, sent, failures)
	t.Logf("%d reloads", h.reloads())
	if n := len(h.agent.Status().HAProxy.Processes); n > 10 {
		t.Errorf("%d processes", n)
	}
}
