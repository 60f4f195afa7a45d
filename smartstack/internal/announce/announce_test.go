package announce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

const path = paasta.AgentsPath + "/host1"

// run runs an announcer of host1 until the test ends.
func run(t *testing.T, s Session) *Announcer {
	t.Helper()
	a := &Announcer{
		Session: s, Node: paasta.AgentNode{Host: "host1", Status: "http://10.0.0.1:3213", Location: map[string]string{"region": "west1"}},
		Addrs: func() []string { return []string{"10.0.0.1"} }, Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil once its context ended", err)
		}
	})
	return a
}

// TestRealSession loses, finds and shares the node in a real ZooKeeper.
func TestRealSession(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	dial := func() *zk.Conn {
		t.Helper()
		conn, err := zk.Dial(zk.Options{Servers: server.Addr(), Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	conn, ops := dial(), dial()
	says := func(owner func() int64, applied map[string]int64) {
		t.Helper()
		want := paasta.AgentNode{
			Host: "host1", Status: "http://10.0.0.1:3213", Addrs: []string{"10.0.0.1"}, Applied: applied, Location: map[string]string{"region": "west1"},
		}
		var diff string
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			text, stat, err := ops.Get(ctx, path)
			cancel()
			var got paasta.AgentNode
			if err == nil {
				err = json.Unmarshal(text, &got)
			}
			diff = fmt.Sprint(err, stat.EphemeralOwner, cmp.Diff(want, got))
			if err == nil && cmp.Equal(want, got) && stat.EphemeralOwner == owner() {
				return
			}
		}
		t.Fatalf("%s is not as it should be: %s", path, diff)
	}

	// An agent that was killed left its node, with a session that has not ended.
	killed := dial()
	if err := killed.CreateEphemeral(t.Context(), path, []byte(`{"host":"host1"}`)); err != nil {
		t.Fatal(err)
	}
	a := run(t, conn)
	a.Applied(map[string]int64{"web.main": 1}, nil)
	says(conn.SessionID, map[string]int64{"web.main": 1})
	for v := range int64(100) {
		a.Applied(map[string]int64{"web.main": v, "api.main": v}, nil)
	}
	says(conn.SessionID, map[string]int64{"web.main": 99, "api.main": 99})

	if err := ops.Delete(t.Context(), path, -1); err != nil {
		t.Fatal(err)
	}
	says(conn.SessionID, map[string]int64{"web.main": 99, "api.main": 99})
	if err := ops.Set(t.Context(), path, []byte("nonsense"), -1); err != nil {
		t.Fatal(err)
	}
	a.Applied(map[string]int64{"web.main": 98}, nil) // else it is seen within a minute
	says(conn.SessionID, map[string]int64{"web.main": 98, "api.main": 99})

	before := conn.SessionID()
	server.Pause()
	for deadline := time.Now().Add(30 * time.Second); conn.Connected() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // beyond a session's end
	a.Applied(map[string]int64{"web.main": 100}, []string{"api.main"})
	server.Resume()
	says(conn.SessionID, map[string]int64{"web.main": 100})
	t.Logf("session %x, then %x", before, conn.SessionID())

	// ZooKeeper lost its data, and with them every session that it knew.
	server.Wipe()
	says(conn.SessionID, map[string]int64{"web.main": 100})
}

// fake is a session that fails, and counts.
type fake struct {
	mu     sync.Mutex
	fails  error
	node   []byte
	at     int32 // version of node
	writes int
	reads  int
}

func (f *fake) Sessions(context.Context, chan<- struct{}) {}
func (f *fake) SessionID() int64                          { return 1 }

func (f *fake) WatchChildren(context.Context, string, chan<- struct{}) ([]string, zk.Stat, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	switch {
	case f.fails != nil:
		return nil, zk.Stat{}, f.fails
	case f.node == nil:
		return nil, zk.Stat{}, zk.ErrNoNode
	}
	return nil, zk.Stat{EphemeralOwner: 1, Version: f.at}, nil
}

func (f *fake) CreateEphemeral(ctx context.Context, path string, data []byte) error {
	defer f.change(func() { f.at = 0 })
	return f.Set(ctx, path, data, -1)
}

func (f *fake) Set(_ context.Context, _ string, data []byte, _ int32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	f.node = data
	f.at++
	return f.fails
}

func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// start runs an announcer in a bubble.
func start(t *testing.T, f *fake, log *bytes.Buffer) *Announcer {
	t.Helper()
	a := &Announcer{Session: f, Node: paasta.AgentNode{Host: "host1"}, Log: slog.New(slog.NewTextHandler(log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}

// A burst is few writes, and what has not changed is none.
func TestCoalesces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a := start(t, f, &bytes.Buffer{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if f.reads != 0 || f.writes != 0 {
			t.Errorf("%d reads and %d writes before anything was applied", f.reads, f.writes)
		}
		for v := range int64(1000) { // a change a millisecond
			a.Applied(map[string]int64{"web.main": v}, nil)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if f.writes < 20 || f.writes > 60 { // one every 20 ms
			t.Errorf("%d writes in a second of changes", f.writes)
		}
		if !strings.Contains(string(f.node), `"web.main":999`) {
			t.Errorf("announced %s", f.node)
		}
		before := f.writes
		time.Sleep(time.Hour)
		synctest.Wait()
		if f.writes != before {
			t.Errorf("%d writes of what was there", f.writes-before)
		}
		// A large node, which every master reads, is written less often.
		large := map[string]int64{}
		for i := range 10_000 {
			large[fmt.Sprint("s", i)] = 1
		}
		a.Applied(large, nil)
		before = f.writes
		for v := range int64(1000) {
			a.Applied(map[string]int64{"s0": v}, nil)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := f.writes - before; n > 8 {
			t.Errorf("%d writes of 10,000 registrations in a second", n)
		}
	})
}

// Trouble is said once and tried again with growing pauses.
func TestBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{fails: errors.New("no quorum")}
		var log bytes.Buffer
		a := start(t, f, &log)
		a.Applied(map[string]int64{"web.main": 1}, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if f.reads < 10 || f.reads > 25 { // 0.1, 0.2, 0.4 … 5 s
			t.Errorf("%d tries in a minute", f.reads)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "announce "+path+": no quorum") {
			t.Errorf("%d warnings:\n%s", n, log.String())
		}
		f.change(func() { f.fails = nil })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if !strings.Contains(string(f.node), `"web.main":1`) {
			t.Errorf("announced %s", f.node)
		}
	})
}
