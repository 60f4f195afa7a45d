package smartstack

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopaasta/paasta/paasta/zk"
)

// counted is a session whose agents' node has so many children; -1 for one that
// does not answer.
type counted struct {
	Session
	agents atomic.Int32
}

func (c *counted) Get(context.Context, string) ([]byte, zk.Stat, error) {
	if c.agents.Load() < 0 {
		return nil, zk.Stat{}, errors.New("away")
	}
	return nil, zk.Stat{NumChildren: c.agents.Load()}, nil
}

func TestFleetSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c fleetSize
		s := &counted{}
		s.agents.Store(3)
		go c.count(s)(t.Context())
		for _, step := range []struct {
			agents int32
			want   time.Duration
			why    string
		}{
			{3, 0, "few agents do not wait"},
			{manyAgents, 0, "nor do a hundred"},
			{manyAgents + 1, readJitter, "more do"},
			{-1, readJitter, "and go on while ZooKeeper is away"},
			{3, 0, "until they are few again"},
		} {
			synctest.Wait()
			s.agents.Store(step.agents)
			time.Sleep(countEvery)
			synctest.Wait()
			if got := c.jitter(); got != step.want {
				t.Errorf("%s: %v, want %v", step.why, got, step.want)
			}
		}
	})
}
