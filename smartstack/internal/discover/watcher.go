package discover

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A Watcher reads registrations whenever they change. One that waits for a
// change costs no goroutine: a host has a thousand. Its fields are set before.
type Watcher struct {
	Registry registry.Registry
	// Resync is the longest pause between two reads of a registration: what a
	// lost event costs. Default 1m.
	Resync time.Duration
	// Quiet is the shortest, so that a storm of changes costs few reads. Default
	// 5ms.
	Quiet time.Duration
	// Jitter is the longest time by which a read is put off at random, so that a
	// large cluster does not read all at once; nil for none.
	Jitter func() time.Duration
	// Reads bounds how many reads are under way by its capacity; nil for no bound.
	Reads chan struct{}

	mu      sync.Mutex
	stopped bool
	reading sync.WaitGroup
}

// readTimeout bounds one read; with ZooKeeper away it is how late we notice
// that nobody told us.
const readTimeout = 10 * time.Second

// The pause after a read that failed, at first and at most.
const (
	firstRetry   = 100 * time.Millisecond
	longestRetry = 5 * time.Second
)

// A watching is one registration that somebody watches.
type watching struct {
	w            *Watcher
	ctx          context.Context // of whoever watches
	registration string
	tell         func(registry.Set, error)
	ended        func()

	mu        sync.Mutex
	state     watchState
	again     bool        // it may have changed since the read that is under way began
	timer     *time.Timer // of the next read, but while one is under way
	notBefore time.Time   // the next read

	// Of the reader.
	watched bool // the registry tells of changes
	retry   time.Duration
}

// A watchState goes from due to reading when the timer says so, from there to
// idle, or to due when it was woken meanwhile, and from idle to due when it is
// woken, or to reading when a resync or a retry is due. From each it may be over.
type watchState int

const (
	due watchState = iota
	reading
	idle
	over
)

// Watch tells each read of a registration, or why it did not work, one after the
// other, until ctx ends, and then calls ended, once. It returns at once.
func (w *Watcher) Watch(ctx context.Context, registration string, tell func(registry.Set, error), ended func()) {
	t := &watching{w: w, ctx: ctx, registration: registration, tell: tell, ended: ended, state: due, retry: firstRetry}
	t.mu.Lock()
	t.timer = time.AfterFunc(0, t.read)
	t.mu.Unlock()
	context.AfterFunc(ctx, t.end)
}

// Wait lets no further read begin, and returns once none is under way. End the
// contexts of all who watch before.
func (w *Watcher) Wait() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.reading.Wait()
}

func (w *Watcher) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false
	}
	w.reading.Add(1)
	return true
}

// wake is called when the registration may have changed.
func (t *watching) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case idle:
		t.soon()
	case reading:
		t.again = true
	case due, over:
	}
}

// soon makes the next read due. t.mu is held.
func (t *watching) soon() {
	pause := max(time.Until(t.notBefore), 0)
	if t.w.Jitter != nil {
		if longest := t.w.Jitter(); longest > 0 {
			pause += rand.N(longest)
		}
	}
	t.state = due
	t.timer.Reset(pause)
}

// read is what the timer calls, in a goroutine of its own.
func (t *watching) read() {
	if !t.w.begin() {
		return
	}
	defer t.w.reading.Done()
	t.mu.Lock()
	if t.state == reading || t.state == over {
		t.mu.Unlock()
		return // an early or late timer
	}
	t.state = reading
	t.mu.Unlock()

	set, err := t.list()
	if t.ctx.Err() == nil {
		t.tell(set, err)
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.notBefore = time.Now().Add(cmp.Or(t.w.Quiet, 5*time.Millisecond))
	switch {
	case t.ctx.Err() != nil:
		t.state = over
		t.ended()
	case t.again:
		t.soon()
	default:
		t.state = idle
		t.timer.Reset(t.pause(err))
	}
}

// pause is how long to wait for a change after a read.
func (t *watching) pause(err error) time.Duration {
	if err != nil {
		pause := t.retry
		t.retry = min(2*t.retry, longestRetry)
		return pause
	}
	t.retry = firstRetry
	resync := cmp.Or(t.w.Resync, time.Minute)
	return resync - time.Duration(rand.Int64N(int64(resync/5)+1))
}

func (t *watching) list() (registry.Set, error) {
	if !t.watched {
		if err := t.w.Registry.Watch(t.ctx, t.registration, t.wake); err != nil {
			return registry.Set{}, err
		}
		t.watched = true
	}
	if t.w.Reads != nil {
		select {
		case t.w.Reads <- struct{}{}:
			defer func() { <-t.w.Reads }()
		case <-t.ctx.Done():
			return registry.Set{}, t.ctx.Err()
		}
	}
	t.mu.Lock()
	t.again = false // what woke us so far is answered by the read that follows
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.ctx, readTimeout)
	defer cancel()
	return t.w.Registry.List(ctx, t.registration)
}

// end is called when the context of whoever watches has ended.
func (t *watching) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer.Stop()
	if t.state == idle || t.state == due { // else the reader does it
		t.state = over
		t.ended()
	}
}
