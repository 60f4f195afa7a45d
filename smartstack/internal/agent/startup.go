package agent

import "time"

// startWait is how long a start waits for the registry and the first probes before
// HAProxy gets its first config of this agent, so that it gets one and not several.
const startWait = 2 * time.Second

// A startGate keeps an agent that has just started from reloading while it still
// learns what there is.
type startGate struct {
	until     time.Time // zero: open
	end       time.Time // of a host that has never served, which learns more all the time
	confirmed int       // registrations that had answers when that was looked at last
}

func newStartGate(now time.Time) startGate {
	return startGate{until: now.Add(startWait), end: now.Add(5 * startWait)}
}

// closed tells whether soa-configs have not been read, the registry has not answered
// for every registration, or servers have not been probed yet. A host that has never
// served does not wait for probes: all that it could do meanwhile is to refuse its
// clients.
func (g *startGate) closed(now time.Time, cold, treeRead bool, registrations map[string]*registration) bool {
	switch {
	case g.until.IsZero():
		return false
	case now.After(g.until):
		if !cold || now.After(g.end) {
			return false
		}
		// One config with everything is there sooner than one with a part and
		// thousands of commands, as long as answers keep coming.
		confirmed := 0
		for _, r := range registrations {
			if r.answer.known() {
				confirmed++
			}
		}
		if confirmed == g.confirmed {
			return false
		}
		g.confirmed, g.until = confirmed, now.Add(startWait/4)
	case !treeRead:
		return true // what it says may need another config than the last good one
	}
	for _, r := range registrations {
		if !r.answer.known() && r.answer.err == "" {
			return true
		}
		for _, p := range r.probes {
			if p.kind != untilDown && p.err == "" {
				return true
			}
		}
	}
	g.until = time.Time{}
	return false
}
