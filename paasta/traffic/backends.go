package traffic

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta"
)

type backendKey struct{ registration, server, version, instance, task string }

// backendTally counts a backend's requests, also by endpoint: a backend that
// gets other requests than its peers must not look slow for it.
type backendTally struct {
	all       tally
	endpoints map[string]*tally
}

func (t *backendTally) add(s paasta.RequestSeries, seconds float64) {
	t.all.add(s, seconds)
	if t.endpoints == nil {
		t.endpoints = map[string]*tally{}
	}
	find(t.endpoints, s.Endpoint).add(s, seconds)
}

// A group is all backends of a registration together.
type group struct {
	backends  int
	tests     int // how often any of them is compared
	endpoints map[string]*tally
}

// groupsOf returns the groups by registration.
func groupsOf(all map[backendKey]*backendTally) map[string]*group {
	groups := map[string]*group{}
	for k, t := range all {
		if !isBackend(k) {
			continue
		}
		g := find(groups, k.registration)
		if g.endpoints == nil {
			g.endpoints = map[string]*tally{}
		}
		g.backends++
		g.tests += 3 * len(t.endpoints)
		for name, e := range t.endpoints {
			sum := find(g.endpoints, name)
			sum.latency.Add(e.latency)
			sum.errors += e.errors
		}
	}
	return groups
}

// compareBackends says of each backend whether it is slower than the others of
// its registration, or fails more, on any endpoint. One that is makes the others
// look good, so these are then compared without it.
func compareBackends(all map[backendKey]*backendTally) []Backend {
	unflagged := maps.Clone(all)
	groups := groupsOf(all)
	backends := make([]Backend, 0, len(all))
	for k, t := range all {
		b := Backend{Registration: k.registration, Server: k.server, Instance: k.instance, TaskID: k.task, Version: k.version, Counts: t.all.counts(), Verdict: Unknown}
		if isBackend(k) {
			b.Verdict, b.Why = groups[k.registration].compare(t)
		} else {
			b.Why = "no backend: HAProxy answered itself, or another service's did"
		}
		if b.Verdict == Worse {
			delete(unflagged, k)
		}
		backends = append(backends, b)
	}
	groups = groupsOf(unflagged)
	for i := range backends {
		b := &backends[i]
		if b.Verdict != Better {
			continue
		}
		if t := unflagged[backendKey{b.Registration, b.Server, b.Version, b.Instance, b.TaskID}]; t != nil {
			if v, why := groups[b.Registration].compare(t); why != noPeers {
				b.Verdict, b.Why = v, why
			}
		}
	}
	slices.SortFunc(backends, func(a, b Backend) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), cmp.Compare(b.P50, a.P50), strings.Compare(a.Server, b.Server), strings.Compare(a.Version, b.Version), strings.Compare(a.TaskID, b.TaskID))
	})
	return backends
}

// isBackend tells servers of a registration from what else stands in their
// place.
func isBackend(k backendKey) bool {
	return k.server != "none" && k.server != "other" && !strings.HasPrefix(k.server, "via ")
}

// noPeers is why a backend cannot be compared.
const noPeers = "there is no other backend to compare with"

// compare compares one backend of the group with the others.
func (g *group) compare(t *backendTally) (Verdict, string) {
	if g.backends < 2 {
		return Unknown, noPeers
	}
	z := zScore(g.tests)
	var verdicts []Verdict
	var why []string
	for _, name := range slices.Sorted(maps.Keys(t.endpoints)) {
		mine := t.endpoints[name]
		theirs := tally{latency: g.endpoints[name].latency.Minus(mine.latency), errors: g.endpoints[name].errors - mine.errors}
		for _, q := range []float64{.5, .95} {
			c := compareQuantile(theirs.latency, mine.latency, q, z)
			verdicts = append(verdicts, c.Verdict)
			if c.Verdict == Worse || c.Verdict == Better {
				why = append(why, fmt.Sprintf("%s: p%.0f %s, the others %s", name, q*100, milliseconds(c.After), milliseconds(c.Before)))
				break
			}
		}
		c := compareErrors(theirs.errors, theirs.latency.Count, mine.errors, mine.latency.Count, z)
		verdicts = append(verdicts, c.Verdict)
		if c.Verdict == Worse || c.Verdict == Better {
			why = append(why, fmt.Sprintf("%s: %.2g %% errors, the others %.2g %%", name, c.After*100, c.Before*100))
		}
	}
	verdict := worst(verdicts...)
	if verdict == Unknown {
		why = append(why, fmt.Sprintf("%d requests are too few", t.all.latency.Count))
	}
	return verdict, strings.Join(why, "; ")
}
