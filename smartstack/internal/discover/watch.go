package discover

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A Watcher reads registrations whenever they change. Its fields are set before.
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

	watching sync.WaitGroup
}

// readTimeout bounds one read; with ZooKeeper away it is how late we notice
// that nobody told us.
const readTimeout = 10 * time.Second

// The pause after a read that failed, at first and at most.
const (
	firstRetry   = 100 * time.Millisecond
	longestRetry = 5 * time.Second
)

// Watch tells each read of a registration, or why it did not work, one after the
// other, until ctx ends, and then calls ended, once. It returns at once.
func (w *Watcher) Watch(ctx context.Context, registration string, tell func(registry.Set, error), ended func()) {
	w.watching.Go(func() {
		defer ended()
		changed := make(chan struct{}, 1)
		retry, watched := firstRetry, false
		for pause := time.Duration(0); sleep(ctx, pause); {
			set, err := w.read(ctx, registration, changed, &watched)
			if ctx.Err() != nil {
				return
			}
			tell(set, err)
			resync := cmp.Or(w.Resync, time.Minute)
			next := resync - rand.N(resync/5+1)
			if err != nil {
				next, retry = retry, min(2*retry, longestRetry)
			} else {
				retry = firstRetry
			}
			if !sleep(ctx, cmp.Or(w.Quiet, 5*time.Millisecond)) {
				return
			}
			pause = w.jitter()
			timer := time.NewTimer(next)
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timer.C:
				pause = 0
			}
			timer.Stop()
		}
	})
}

// Wait returns once nobody watches any more. End the contexts of all before.
func (w *Watcher) Wait() { w.watching.Wait() }

// jitter is how long to put a read off.
func (w *Watcher) jitter() time.Duration {
	if w.Jitter == nil {
		return 0
	}
	if longest := w.Jitter(); longest > 0 {
		return rand.N(longest)
	}
	return 0
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// read reads a registration; the first time it has the registry tell of changes.
func (w *Watcher) read(ctx context.Context, registration string, changed chan struct{}, watched *bool) (registry.Set, error) {
	if !*watched {
		err := w.Registry.Watch(ctx, registration, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return registry.Set{}, err
		}
		*watched = true
	}
	if w.Reads != nil {
		select {
		case w.Reads <- struct{}{}:
			defer func() { <-w.Reads }()
		case <-ctx.Done():
			return registry.Set{}, ctx.Err()
		}
	}
	select {
	case <-changed: // what has changed so far is answered by the read that follows
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return w.Registry.List(ctx, registration)
}
