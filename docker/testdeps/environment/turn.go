package environment

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Turns let a few starts happen at the same time, the most urgent first. A
// start is CPU time of the engine's, as a rule: all at once, each takes as long
// as all together, and the one that is slow to be ready begins last of all.
type turns struct {
	mu   sync.Mutex
	free int // turns that nobody has
	line []*turn
}

type turn struct {
	urgency time.Duration
	came    chan struct{} // closed when it is this one's turn
}

// open lets n starts happen at the same time. Until then all wait, so that the
// first turns are not those of whoever came first.
func (q *turns) open(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free = n
	q.next()
}

// take waits for a turn, which give gives back; to call that twice does no harm.
// An error means that ctx has ended.
func (q *turns) take(ctx context.Context, urgency time.Duration) (give func(), err error) {
	t := &turn{urgency, make(chan struct{})}
	q.mu.Lock()
	q.line = append(q.line, t)
	q.next()
	q.mu.Unlock()
	give = sync.OnceFunc(q.giveBack)
	select {
	case <-t.came:
		return give, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	at := slices.Index(q.line, t)
	if at >= 0 {
		q.line = slices.Delete(q.line, at, at+1)
	}
	q.mu.Unlock()
	if at < 0 { // it came in the same moment
		give()
	}
	return func() {}, context.Canceled
}

func (q *turns) giveBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	q.next()
}

// next lets the most urgent go, of two that are the first who came.
func (q *turns) next() {
	for q.free > 0 && len(q.line) > 0 {
		at := 0
		for n, t := range q.line {
			if t.urgency > q.line[at].urgency {
				at = n
			}
		}
		close(q.line[at].came)
		q.line = slices.Delete(q.line, at, at+1)
		q.free--
	}
}
