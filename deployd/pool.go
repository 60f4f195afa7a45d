package deployd

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/queue"
	"github.com/gopaasta/paasta/paasta"
)

// A pool makes rounds for instances: as many at a time as it has slots, each
// instance once at a time, and a round that waits for somebody else's answer
// without a slot.
type pool struct {
	slots chan struct{}
	limit time.Duration // of one round
	round func(ctx context.Context, id paasta.InstanceID) (again time.Duration, err error)
	log   *slog.Logger
	m     *metrics

	mu   sync.Mutex
	q    *queue.Queue[paasta.InstanceID]
	said map[paasta.InstanceID]string // why the latest round failed
	wake chan struct{}
}

func newPool(slots int, limit time.Duration, log *slog.Logger, m *metrics) *pool {
	return &pool{
		slots: make(chan struct{}, slots), limit: limit, log: log, m: m,
		q: queue.New[paasta.InstanceID](), said: map[paasta.InstanceID]string{}, wake: make(chan struct{}, 1),
	}
}

// add asks for a round for an instance after d.
func (p *pool) add(id paasta.InstanceID, d time.Duration, priority queue.Priority) {
	now := time.Now()
	p.mu.Lock()
	p.q.Add(id, now, now.Add(d), priority)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// due returns when an instance is looked at next, if that is known.
func (p *pool) due(id paasta.InstanceID) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, _ := p.q.Due(id)
	return at
}

// outside runs f without holding a slot.
func (p *pool) outside(f func()) {
	<-p.slots
	defer func() { p.slots <- struct{}{} }()
	f()
}

// run makes rounds until ctx ends, and then returns nil once all have ended.
func (p *pool) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p.slots <- struct{}{}:
		}
		p.mu.Lock()
		now := time.Now()
		item, ok, next := p.q.Pop(now)
		waiting, due, busy := p.q.Len(now)
		p.mu.Unlock()
		p.m.queued(waiting, due, busy)
		if ok {
			p.m.waited.Observe(now.Sub(item.Due).Seconds())
			wg.Go(func() {
				p.one(ctx, item.Key)
				<-p.slots
				select {
				case p.wake <- struct{}{}:
				default:
				}
			})
			continue
		}
		<-p.slots
		pause := time.Hour
		if !next.IsZero() {
			pause = next.Sub(now)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Pauses after a round that failed.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = time.Minute
)

func (p *pool) one(ctx context.Context, id paasta.InstanceID) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, p.limit)
	again, err := p.round(limited, id)
	cancel()
	p.m.rounds.WithLabelValues(outcome(err)).Observe(time.Since(began).Seconds())
	p.mu.Lock()
	pause := p.q.Done(id, err != nil, firstRetry, lastRetry)
	before := p.said[id]
	if err != nil {
		p.said[id] = err.Error()
	} else {
		delete(p.said, id)
	}
	p.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
		if before != err.Error() { // each failure is said once
			p.log.Warn("round failed, will retry", "service", id.Service, "instance", id.Instance, "err", err, "retry_in", pause)
		}
		p.add(id, pause, queue.Normal)
	case again > 0:
		p.add(id, again, queue.Normal)
	}
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}
