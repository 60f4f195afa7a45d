// Package removal decides when an instance that soa-configs do not have any
// more is really to be taken down. It is pure.
package removal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// Absence says how an instance is absent from soa-configs.
type Absence int

// The absences.
const (
	Present  Absence = iota // configured, or its file cannot be read: nobody may conclude that it is gone
	Explicit                // its file is there and readable, and does not have it
	Implicit                // its file, or its service's directory, is gone
)

// A Guard holds back the removal of instances when it looks like a mistake:
// more than half of those that run are gone at once. A single instance that its
// own file does not have any more is no mistake. What is still gone after Hold,
// or what an operator has confirmed, is removed.
type Guard struct {
	Hold time.Duration

	since     map[paasta.InstanceID]time.Time
	allowed   map[paasta.InstanceID]bool
	confirmed map[string]time.Time
	why       string
}

// Look is given every instance that runs or is registered, and how it is
// absent. It returns those to take down, and when to look again if some are
// held back.
func (g *Guard) Look(now time.Time, instances map[paasta.InstanceID]Absence) (remove []paasta.InstanceID, again time.Time) {
	if g.since == nil {
		g.since, g.allowed = map[paasta.InstanceID]time.Time{}, map[paasta.InstanceID]bool{}
	}
	var gone []paasta.InstanceID
	implicit := 0
	for id, absence := range instances {
		if absence == Present {
			continue
		}
		gone = append(gone, id)
		if absence == Implicit {
			implicit++
		}
		if _, ok := g.since[id]; !ok {
			g.since[id] = now
		}
	}
	// Whatever came back is forgotten, and so is what has been taken down.
	keep := func(id paasta.InstanceID) bool {
		absence, runs := instances[id]
		return runs && absence != Present
	}
	maps.DeleteFunc(g.since, func(id paasta.InstanceID, _ time.Time) bool { return !keep(id) })
	maps.DeleteFunc(g.allowed, func(id paasta.InstanceID, _ bool) bool { return !keep(id) })

	fresh := 0
	for _, id := range gone {
		if !g.allowed[id] {
			fresh++
		}
	}
	many := 2*fresh > len(instances) && (fresh > 1 || implicit > 0)
	g.why = ""
	held := 0
	for _, id := range gone {
		due := g.since[id].Add(g.Hold)
		confirmed := !now.After(g.confirmed[id.Service]) || !now.After(g.confirmed[""])
		if g.allowed[id] || !many || !now.Before(due) || confirmed {
			g.allowed[id] = true
			remove = append(remove, id)
			continue
		}
		held++
		if again.IsZero() || due.Before(again) {
			again = due
		}
	}
	if held > 0 {
		g.why = fmt.Sprintf("%d of %d instances are gone from soa-configs at once: nothing is taken down before %s, or until it is confirmed",
			held, len(instances), again.UTC().Format(time.TimeOnly))
	}
	slices.SortFunc(remove, func(a, b paasta.InstanceID) int {
		return strings.Compare(a.String(), b.String())
	})
	return remove, again
}

// Confirm lets everything of a service ("" for all) through for one Hold.
func (g *Guard) Confirm(service string, now time.Time) {
	if g.confirmed == nil {
		g.confirmed = map[string]time.Time{}
	}
	g.confirmed[service] = now.Add(g.Hold)
}

// Why says what is held back, "" when nothing is.
func (g *Guard) Why() string { return g.why }
