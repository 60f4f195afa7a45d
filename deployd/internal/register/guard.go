// Package register decides which entries the registry should have for an
// instance's tasks, and holds back removals that look like a mistake.
package register

import (
	"sync"
	"time"
)

// A Guard holds back removals that nobody planned when they are too many: more
// than half of a service's entries or more than a third of the cluster's
// within Hold. What is still to be removed Hold later, or what an operator has
// confirmed, may go. A Guard lives as long as a term of leadership, so what it
// lets through was read twice by one elected leader.
type Guard struct {
	Hold time.Duration

	mu        sync.Mutex
	removed   []removal
	held      map[string]map[string]time.Time // instance → entry → asked for since
	confirmed map[string]time.Time            // service → until
}

type removal struct {
	service string
	at      time.Time
	n       int
}

// Ask returns which of an instance's entries, by path, may be removed now, and
// when those that are held back may. ofService and ofCluster are how many
// entries there are. An entry that Ask is not given any more is forgotten.
func (g *Guard) Ask(now time.Time, service, instance string, paths []string, ofService, ofCluster int) (allowed []string, held int, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = map[string]map[string]time.Time{}
	}
	if len(paths) == 0 {
		delete(g.held, instance)
		return nil, 0, time.Time{}
	}
	since := map[string]time.Time{}
	for _, p := range paths {
		since[p] = now
		if first, ok := g.held[instance][p]; ok {
			since[p] = first
		}
	}
	lately, latelyAll := 0, 0
	recent := g.removed[:0]
	for _, r := range g.removed {
		if now.Sub(r.at) >= g.Hold {
			continue
		}
		recent = append(recent, r)
		latelyAll += r.n
		if r.service == service {
			lately += r.n
		}
	}
	g.removed = recent
	many := 2*(lately+len(paths)) > ofService+lately || 3*(latelyAll+len(paths)) > ofCluster+latelyAll
	many = many && now.After(g.confirmed[service]) && now.After(g.confirmed[""])
	waiting := map[string]time.Time{}
	for _, p := range paths {
		if due := since[p].Add(g.Hold); many && now.Before(due) {
			waiting[p] = since[p]
			if until.IsZero() || due.Before(until) {
				until = due
			}
			continue
		}
		allowed = append(allowed, p)
	}
	g.held[instance] = waiting
	if len(waiting) == 0 {
		delete(g.held, instance)
	}
	if len(allowed) > 0 {
		g.removed = append(g.removed, removal{service, now, len(allowed)})
	}
	return allowed, len(waiting), until
}

// Confirm lets everything of a service ("" for all) through for one Hold: an
// operator has said that it is right.
func (g *Guard) Confirm(service string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.confirmed == nil {
		g.confirmed = map[string]time.Time{}
	}
	g.confirmed[service] = now.Add(g.Hold)
}

// Held returns how many removals are held back.
func (g *Guard) Held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, entries := range g.held {
		n += len(entries)
	}
	return n
}
