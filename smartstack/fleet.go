package smartstack

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/rungroup"
)

// From this many agents on, each waits a random while before it reads what has
// changed, so that they do not all ask ZooKeeper in the same millisecond.
const (
	manyAgents = 100
	readJitter = 100 * time.Millisecond
	countEvery = time.Minute
)

// A fleetSize knows about how many agents there are.
type fleetSize struct{ many atomic.Bool }

// jitter is the longest time by which a read should be put off.
func (c *fleetSize) jitter() time.Duration {
	if c.many.Load() {
		return readJitter
	}
	return 0
}

// count asks now and then how many agents announce themselves, until ctx ends.
// The node's statistics tell, without its children. While ZooKeeper does not
// answer, what was known stands.
func (c *fleetSize) count(s Session) func(context.Context) error {
	return rungroup.Every(countEvery, func(ctx context.Context) {
		if _, stat, err := s.Get(ctx, paasta.AgentsPath); err == nil {
			c.many.Store(stat.NumChildren > manyAgents)
		}
	})
}
