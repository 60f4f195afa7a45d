package discover

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/registry/registrytest"
)

// told is what a watcher told.
type told struct {
	slow  atomic.Int64 // time.Duration that whoever is told takes
	mu    sync.Mutex
	reads []int // nodes of each, -1 for an error
	ended int
}

func (t *told) tell(set registry.Set, err error) {
	time.Sleep(time.Duration(t.slow.Load()))
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.reads = append(t.reads, -1)
		return
	}
	t.reads = append(t.reads, len(set.Nodes))
}

func (t *told) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended++
}

// take returns what was told since the last time.
func (t *told) take() (reads []int, ended int) {
	synctest.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	reads, t.reads = t.reads, nil
	return reads, t.ended
}

func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		fake := new(registrytest.Fake)
		w := &Watcher{Registry: fake, Resync: time.Minute, Quiet: 10 * time.Millisecond, Reads: make(chan struct{}, 1)}
		seen := new(told)
		count := func(want int, last int, why string) {
			t.Helper()
			reads, ended := seen.take()
			if len(reads) != want || want > 0 && reads[want-1] != last || ended != 0 {
				t.Fatalf("%s: read %v, want %d reads, of which the last has %d nodes; ended %d times", why, reads, want, last, ended)
			}
		}
		port := 0
		add := func() {
			t.Helper()
			port++
			if err := fake.Apply(ctx, "web.main", []registry.Entry{{Host: "10.0.0.1", Port: port, Weight: 1}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.Watch(ctx, "web.main", seen.tell, seen.end)
		count(1, 0, "at once")
		time.Sleep(time.Second)
		count(0, 0, "nothing changed")
		add()
		count(1, 1, "a change is read at once")
		add()
		add()
		count(0, 0, "so soon after a read")
		time.Sleep(10 * time.Millisecond)
		count(1, 3, "after the quiet time, once")
		seen.slow.Store(int64(time.Second))
		time.Sleep(time.Second)
		add()
		time.Sleep(time.Millisecond)
		add() // while it is told
		time.Sleep(3 * time.Second)
		count(2, 5, "what changes during a read is read afterwards")
		seen.slow.Store(0)
		time.Sleep(time.Minute)
		count(1, 5, "a resync")

		fake.Fail(errors.New("away"))
		since := time.Now()
		time.Sleep(time.Minute)
		reads, _ := seen.take()
		if n := len(reads); n < 3 || n > 20 || reads[n-1] != -1 {
			t.Errorf("read %v in %v of failures", reads, time.Since(since))
		}
		fake.Fail(nil)
		time.Sleep(10 * time.Millisecond)
		count(1, 5, "it is back")

		seen.slow.Store(int64(time.Second))
		add()
		time.Sleep(time.Millisecond)
		cancel()
		time.Sleep(time.Millisecond)
		if _, ended := seen.take(); ended != 0 {
			t.Error("ended while it was told")
		}
		w.Wait()
		if reads, ended := seen.take(); len(reads) != 1 || ended != 1 {
			t.Errorf("read %v in the end, ended %d times", reads, ended)
		}
		time.Sleep(time.Hour)
		if reads, ended := seen.take(); len(reads) != 0 || ended != 1 {
			t.Errorf("read %v after the end, ended %d times", reads, ended)
		}
	})
}

// Changes within the jitter are one read, and a watch that ends meanwhile has
// ended.
func TestWatcherJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		fake := new(registrytest.Fake)
		w := &Watcher{Registry: fake, Jitter: func() time.Duration { return time.Second }}
		seen := new(told)
		w.Watch(ctx, "web.main", seen.tell, seen.end)
		if reads, _ := seen.take(); len(reads) != 1 {
			t.Fatalf("read %v at first", reads)
		}
		time.Sleep(time.Second)
		for i := range 20 {
			if err := fake.Apply(ctx, "web.main", []registry.Entry{{Host: "10.0.0.1", Port: i + 1, Weight: 1}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if reads, _ := seen.take(); len(reads) != 1 || reads[0] != 20 {
			t.Errorf("read %v, want one read of 20", reads)
		}
		if err := fake.Apply(ctx, "web.main", []registry.Entry{{Host: "10.0.0.2", Port: 1, Weight: 1}}, nil); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, ended := seen.take(); ended != 1 {
			t.Errorf("ended %d times", ended)
		}
		w.Wait()
	})
}
