package worker

import (
	"sync"
	"time"
)

// A lag is the longest time that agents took lately to apply a drain, as far as
// it says something about the next one.
type lag struct {
	mu      sync.Mutex
	longest time.Duration
	at      time.Time
}

const (
	// lagTells is how long an agent that took long says something about others.
	lagTells = time.Hour
	// maxLag bounds what it says: beyond that the agent had lost the registry, and
	// not all others take so long.
	maxLag = 30 * time.Second
)

// saw notes that the last agent had applied a drain after d.
func (l *lag) saw(d time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d = min(d, maxLag); d >= l.longest || now.Sub(l.at) > lagTells {
		l.longest, l.at = d, now
	}
}

// get returns the longest, 0 when none was seen lately.
func (l *lag) get(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.at) > lagTells {
		return 0
	}
	return l.longest
}

// grace is the time that hosts get which run the original synapse, and say nothing
// of what they have applied: between a drain and the end of the task, and between
// its registration and the drain of another. It is as long as agents were seen to
// take, and at least what the system config says.
func (r *round) grace(now time.Time) time.Duration {
	d := r.o.Config.DrainGrace
	if d <= 0 {
		return 0
	}
	return max(d, r.lag.get(now))
}
