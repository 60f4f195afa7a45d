package core

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
	"github.com/gopaasta/paasta/paasta/pattern"
)

// Reasons are why an offer is declined, in the order in which they are looked at.
var Reasons = []string{
	"UnfulfilledRole", "UnfulfilledConstraint", "NoCorrespondingReservationFound", "AgentMaintenance", "InsufficientCpus",
	"InsufficientMemory", "InsufficientDisk", "InsufficientGpus", "InsufficientPorts", "DeclinedScarceResources",
}

// Offers says what became of the offers to an app whose tasks wait.
type Offers struct {
	Processed, Unused int
	LastUnused        time.Time
	Last              []Reject // of the latest round, in the order of the agents
}

// A Reject is one agent's offer; Reason is "" when it fits.
type Reject struct {
	Agent  *Agent
	Reason string
	Time   time.Time
}

// match looks for the agent for one more task of an app: of those that fit, the
// one with the fewest tasks of this app, then with the most free CPU.
func (m *Machine) match(now time.Time, a *definition.App) (best *Agent, ports []int, rejects []Reject) {
	mine := map[string]int{}
	var placed []*Agent
	for _, t := range m.wanted(a.ID) {
		mine[t.AgentID]++
		placed = append(placed, m.agents[t.AgentID])
	}
	used := m.usage()
	fits := func(x *Agent) (string, []int) {
		u := used[x.ID]
		switch {
		case !fulfilled(a.Constraints, x, placed):
			return "UnfulfilledConstraint", nil
		case u.cpus+a.CPUs > x.CPUs+1e-9:
			return "InsufficientCpus", nil
		case u.mem+a.Mem > x.Mem:
			return "InsufficientMemory", nil
		case u.disk+a.Disk > x.Disk:
			return "InsufficientDisk", nil
		}
		slots, ok := m.assign(a, x, used)
		if !ok {
			return "InsufficientPorts", nil
		}
		return "", slots
	}
	for i := range m.cfg.Agents {
		x := &m.cfg.Agents[i]
		reason, slots := fits(x)
		rejects = append(rejects, Reject{x, reason, now})
		if reason != "" {
			continue
		}
		if best == nil || mine[x.ID] < mine[best.ID] ||
			mine[x.ID] == mine[best.ID] && x.CPUs-used[x.ID].cpus > best.CPUs-used[best.ID].cpus+1e-9 {
			best, ports = x, slots
		}
	}
	if len(ports) > 0 {
		m.nextPort = slices.Max(ports) + 1
	}
	return best, ports, rejects
}

// usage is what the tasks take of an agent.
type usage struct {
	cpus, mem, disk float64
	ports           map[int]bool
	shared          map[int]bool // of tasks on this host's own network: taken on every agent
}

func (m *Machine) usage() map[string]*usage {
	shared := map[int]bool{}
	all := make(map[string]*usage, len(m.agents))
	for id := range m.agents {
		all[id] = &usage{ports: map[int]bool{}, shared: shared}
	}
	for _, t := range m.byID {
		u := all[t.AgentID]
		if u == nil {
			continue // its agent was configured away
		}
		u.cpus += t.App.CPUs
		u.mem += t.App.Mem
		u.disk += t.App.Disk
		for _, p := range t.Ports {
			u.ports[p] = true
			if t.App.Mode() == "host" {
				shared[p] = true
			}
		}
	}
	return all
}

// assign finds the host port of each declared port, 0 for one that has none.
// Ports are given out in turn, so that one that was just freed is not another's
// at once; and, since all agents are one machine, one that is free on all of
// them before one that is free on this one only.
func (m *Machine) assign(a *definition.App, x *Agent, used map[string]*usage) ([]int, bool) {
	u := used[x.ID]
	taken := func(p int) bool { return u.ports[p] || u.shared[p] }
	anywhere := func(p int) bool {
		for _, u := range used {
			if u.ports[p] {
				return true
			}
		}
		return false
	}
	host := a.Mode() == "host"
	given := map[int]bool{}
	dynamic := func() int {
		for _, busy := range []func(int) bool{anywhere, taken} {
			size := x.PortHigh - x.PortLow + 1
			start := m.nextPort - x.PortLow
			if start < 0 || start >= size {
				start = 0
			}
			for i := range size {
				if p := x.PortLow + (start+i)%size; !busy(p) && !given[p] {
					return p
				}
			}
			if host {
				break
			}
		}
		return 0
	}
	slots := []int{}
	slot := func(fixed int) bool {
		p := fixed
		if p == 0 {
			p = dynamic()
		} else if taken(p) || given[p] || host && anywhere(p) {
			return false
		}
		given[p] = true
		slots = append(slots, p)
		return p != 0
	}
	for _, m := range a.Mappings() {
		if m.HostPort == nil {
			slots = append(slots, 0)
		} else if !slot(*m.HostPort) {
			return nil, false
		}
	}
	for _, p := range a.Ports() {
		fixed := 0
		if a.RequirePorts {
			fixed = p.Port
		}
		if !slot(fixed) {
			return nil, false
		}
	}
	return slots, true
}

// attribute returns an agent's value of a constraint's field.
func attribute(x *Agent, field string) (string, bool) {
	switch field {
	case "hostname", "@hostname":
		return x.Hostname, true
	case "@region", "@zone":
		v, ok := x.Attributes[field[1:]]
		return v, ok
	}
	v, ok := x.Attributes[field]
	return v, ok
}

// fulfilled tells whether one more task may go to agent x when the app's others
// are on the agents placed, oldest first.
func fulfilled(constraints [][]string, x *Agent, placed []*Agent) bool {
	for _, c := range constraints {
		value := ""
		if len(c) > 2 {
			value = c[2]
		}
		if !satisfies(c[0], c[1], value, x, placed) {
			return false
		}
	}
	return true
}

func satisfies(field, op, value string, x *Agent, placed []*Agent) bool {
	v, ok := attribute(x, field)
	if !ok {
		return op == "UNLIKE"
	}
	counts := map[string]int{}
	first := ""
	for i, p := range placed {
		if p == nil {
			continue // its agent was configured away
		}
		pv, _ := attribute(p, field)
		counts[pv]++
		if i == 0 {
			first = pv
		}
	}
	n, _ := strconv.Atoi(value) // checked when it was posted
	switch op {
	case "UNIQUE":
		return counts[v] == 0
	case "CLUSTER":
		return value != "" && v == value || value == "" && (len(placed) == 0 || v == first)
	case "LIKE", "UNLIKE":
		matches, err := pattern.Matches(value, v)
		return err == nil && matches == (op == "LIKE")
	case "MAX_PER":
		return counts[v] < n
	case "IS":
		return v == value || sameNumber(v, value)
	case "GROUP_BY":
		if counts[v] == 0 {
			return true
		}
		return len(counts) >= n && counts[v] == slices.Min(slices.Collect(maps.Values(counts)))
	}
	return false
}

func sameNumber(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Round(x*1000) == math.Round(y*1000)
}

// Funnel counts the rejects by reason: how many offers came as far as that
// reason, and how many it declined.
func Funnel(rejects []Reject) []map[string]any {
	left := len(rejects)
	list := []map[string]any{}
	for _, reason := range Reasons {
		declined := 0
		for _, r := range rejects {
			if r.Reason == reason {
				declined++
			}
		}
		list = append(list, map[string]any{"reason": reason, "declined": declined, "processed": left})
		left -= declined
	}
	return list
}

// describe writes an agent as an offer.
func (x *Agent) describe(id string) map[string]any {
	attributes := []map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(x.Attributes)) {
		attributes = append(attributes, map[string]any{"name": k, "text": x.Attributes[k]})
	}
	return map[string]any{
		"id": id, "hostname": x.Hostname, "agentId": x.ID, "attributes": attributes,
		"resources": []map[string]any{
			{"name": "cpus", "role": "*", "scalar": x.CPUs},
			{"name": "mem", "role": "*", "scalar": x.Mem},
			{"name": "disk", "role": "*", "scalar": x.Disk},
			{"name": "ports", "role": "*", "ranges": []map[string]any{{"begin": x.PortLow, "end": x.PortHigh}}},
		},
	}
}
