// Package history remembers which commits were fully deployed in which deploy
// group, and why the others were not: that is where to roll back to. It is in
// ZooKeeper, and what a rollback needs of it also in the labels of apps, so that a
// ZooKeeper that lost its data loses no more than older records.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/watch"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
)

// reasonsEvery is how often a new reason alone is written.
const reasonsEvery = 10 * time.Second

// A History is what one term of leadership knows. It is safe for several
// services at a time.
type History struct {
	Conn    *zk.Conn
	Fence   zk.Fence
	Cluster string

	mu       sync.Mutex
	services map[string]*service
}

type service struct {
	mu      sync.Mutex
	loaded  bool
	groups  map[string][]paasta.DeployRecord
	written time.Time
}

// Saw notes what was seen of a group.
func (h *History) Saw(ctx context.Context, name, group string, seen Sight) error {
	return h.change(ctx, name, group, func(records []paasta.DeployRecord, now time.Time) ([]paasta.DeployRecord, bool, bool) {
		return Record(records, seen, now)
	})
}

// Restore notes what an app says of the time before it.
func (h *History) Restore(ctx context.Context, name, group, before, after string, made time.Time) error {
	return h.change(ctx, name, group, func(records []paasta.DeployRecord, _ time.Time) ([]paasta.DeployRecord, bool, bool) {
		records, ok := Restore(records, before, after, made)
		return records, ok, ok
	})
}

// Before returns the commit that was fully deployed in a group before sha, "" for
// none.
func (h *History) Before(ctx context.Context, name, group, sha string) (string, error) {
	s := h.of(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := h.load(ctx, name, s); err != nil {
		return "", err
	}
	return Before(s.groups[group], sha), nil
}

func (h *History) of(name string) *service {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.services == nil {
		h.services = map[string]*service{}
	}
	if h.services[name] == nil {
		h.services[name] = &service{}
	}
	return h.services[name]
}

func (h *History) change(ctx context.Context, name, group string,
	do func([]paasta.DeployRecord, time.Time) (after []paasta.DeployRecord, changed, matters bool),
) error {
	s, now := h.of(name), time.Now().UTC().Truncate(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := h.load(ctx, name, s); err != nil {
		return err
	}
	records, changed, matters := do(s.groups[group], now)
	if !changed || !matters && now.Sub(s.written) < reasonsEvery {
		return nil
	}
	groups := maps.Clone(s.groups)
	groups[group] = records
	text, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	if err := watch.Store(ctx, h.Conn, h.Fence, paasta.DeployedPath(h.Cluster, name), text); err != nil {
		return fmt.Errorf("write what was deployed of %s: %w", name, err)
	}
	s.groups, s.written = groups, now
	return nil
}

func (h *History) load(ctx context.Context, name string, s *service) error {
	if s.loaded {
		return nil
	}
	path := paasta.DeployedPath(h.Cluster, name)
	text, _, err := h.Conn.Get(ctx, path)
	groups := map[string][]paasta.DeployRecord{}
	switch {
	case errors.Is(err, zk.ErrNoNode):
	case err != nil:
		return fmt.Errorf("read what was deployed of %s: %w", name, err)
	default:
		if json.Unmarshal(text, &groups) != nil {
			groups = map[string][]paasta.DeployRecord{} // not ours to read: begun anew
		}
	}
	s.groups, s.loaded = groups, true
	return nil
}
