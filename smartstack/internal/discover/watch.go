package discover

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A Watcher reads registrations whenever they change.
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
}

// readTimeout bounds one read; with ZooKeeper away it is how late we notice
// that nobody told us.
const readTimeout = 10 * time.Second

// Run tells each read of a registration, or why it did not work, until ctx
// ends.
func (w Watcher) Run(ctx context.Context, registration string, tell func(registry.Set, error)) {
	resync, quiet := w.Resync, w.Quiet
	if resync == 0 {
		resync = time.Minute
	}
	if quiet == 0 {
		quiet = 5 * time.Millisecond
	}
	wake := make(chan struct{}, 1)
	watched := false
	const first = 100 * time.Millisecond
	retry := first
	for {
		var err error
		if !watched {
			err = w.Registry.Watch(ctx, registration, wake)
			watched = err == nil
		}
		var set registry.Set
		if err == nil {
			// The wake-up that is pending now is answered by the read that follows.
			select {
			case <-wake:
			default:
			}
			set, err = w.read(ctx, registration)
		}
		if ctx.Err() != nil {
			return
		}
		tell(set, err)
		pause := resync - time.Duration(rand.Int64N(int64(resync/5)+1))
		if err != nil {
			pause = retry
			retry = min(2*retry, 5*time.Second)
		} else {
			retry = first
		}
		if !sleep(ctx, quiet, nil) || !sleep(ctx, pause, wake) {
			return
		}
		if longest := w.jitter(); longest > 0 && !sleep(ctx, rand.N(longest), nil) {
			return
		}
	}
}

func (w Watcher) jitter() time.Duration {
	if w.Jitter == nil {
		return 0
	}
	return w.Jitter()
}

func (w Watcher) read(ctx context.Context, registration string) (registry.Set, error) {
	if w.Reads != nil {
		select {
		case w.Reads <- struct{}{}:
			defer func() { <-w.Reads }()
		case <-ctx.Done():
			return registry.Set{}, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return w.Registry.List(ctx, registration)
}

// sleep waits for d to pass or wake to be ready. It reports false if ctx ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}
