package core

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// The actions of a deployment.
const (
	StartApplication   = "StartApplication"
	ScaleApplication   = "ScaleApplication"
	RestartApplication = "RestartApplication"
	StopApplication    = "StopApplication"
)

// An Action is what one step of a deployment does to one app.
type Action struct {
	Action string `json:"action"`
	App    string `json:"app"`
}

// A Step is a set of actions that run at the same time.
type Step struct {
	Actions []Action `json:"actions"`
}

// Plan returns the steps from the old definitions of the changed apps to the
// new ones; nil is "not there". all is every app and group as it will be:
// dependencies go by it. Apps in restart are replaced even when nothing differs.
func Plan(old, target map[string]*definition.App, restart map[string]bool, all Root) []Step {
	var stop, start []Action
	layers := map[int][]Action{}
	ids := maps.Clone(old)
	maps.Copy(ids, target)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		before, after := old[id], target[id]
		action := ""
		switch {
		case before == nil && after == nil:
		case after == nil:
			stop = append(stop, Action{StopApplication, id})
		case before == nil:
			start = append(start, Action{StartApplication, id})
			action = ScaleApplication
		case restart[id] || !definition.SameConfig(before, after):
			action = RestartApplication
			if after.Instances == 0 {
				action = ScaleApplication
			}
		case before.Instances != after.Instances:
			action = ScaleApplication
		}
		if action != "" {
			depth := depth(id, all, nil)
			layers[depth] = append(layers[depth], Action{action, id})
		}
	}
	var steps []Step
	for _, actions := range [][]Action{stop, start} {
		if len(actions) > 0 {
			steps = append(steps, Step{actions})
		}
	}
	for _, d := range slices.Sorted(maps.Keys(layers)) {
		steps = append(steps, Step{layers[d]})
	}
	return steps
}

// depth is the length of an app's longest chain of dependencies, and negative
// for one that depends on itself.
func depth(id string, all Root, seen []string) int {
	if slices.Contains(seen, id) {
		return math.MinInt32
	}
	if all.Apps[id] == nil {
		return 0
	}
	longest := 0
	for _, on := range all.needs(id) {
		for other := range all.Apps {
			// A dependency on a group is one on all its apps.
			if other == on || strings.HasPrefix(other, on+"/") {
				d := 1 + depth(other, all, append(seen, id))
				if d < 0 {
					return d
				}
				longest = max(longest, d)
			}
		}
	}
	return longest
}

// A Roll is how a rolling replacement may go.
type Roll struct {
	MinHealthy  int `json:"minHealthy"`
	MaxCapacity int `json:"maxCapacity"`
	KillNow     int `json:"killNow"`
}

// PlanRoll bounds the replacement of an app's tasks: n is the new size, healthy
// how many tasks are healthy now, current how many there are.
func PlanRoll(n int, u definition.UpgradeStrategy, healthy, current int) Roll {
	// In this order and in float64, to round as Marathon does.
	r := Roll{
		MinHealthy:  int(math.Ceil(float64(n) * u.MinimumHealthCapacity)),
		MaxCapacity: int(float64(n) * (1 + u.MaximumOverCapacity)),
	}
	r.KillNow = max(0, healthy-r.MinHealthy)
	if r.MinHealthy == r.MaxCapacity && r.MaxCapacity <= healthy {
		r.MaxCapacity++ // one must be able to move
	}
	if n < current {
		r.KillNow = max(current-n, r.KillNow)
	}
	return r
}

// KillOrder sorts tasks, those to be killed first in front: by state, then by
// age as the definition says; with GROUP_BY, so that what stays is spread.
func (m *Machine) killOrder(a *definition.App, tasks []*Task, n int) []*Task {
	list := slices.Clone(tasks)
	slices.SortStableFunc(list, func(x, y *Task) int {
		if c := killRank(y) - killRank(x); c != 0 {
			return c
		}
		c := age(x).Compare(age(y))
		if a.KillSelection != "OLDEST_FIRST" {
			c = -c
		}
		return c
	})
	for _, c := range a.Constraints {
		if c[1] == "GROUP_BY" {
			list = m.spreadKills(c[0], list, n)
		}
	}
	return list
}

// spreadKills moves to the front n tasks of the largest groups.
func (m *Machine) spreadKills(field string, list []*Task, n int) []*Task {
	value := func(t *Task) string {
		if x := m.agents[t.AgentID]; x != nil {
			v, _ := attribute(x, field)
			return v
		}
		return ""
	}
	counts := map[string]int{}
	for _, t := range list {
		counts[value(t)]++
	}
	var first []*Task
	rest := slices.Clone(list)
	for range min(n, len(list)) {
		pick := 0
		for i, t := range rest {
			if counts[value(t)] > counts[value(rest[pick])] {
				pick = i
			}
		}
		counts[value(rest[pick])]--
		first = append(first, rest[pick])
		rest = slices.Delete(rest, pick, pick+1)
	}
	return append(first, rest...)
}

func age(t *Task) time.Time {
	if t.StartedAt.IsZero() {
		return t.StagedAt
	}
	return t.StartedAt
}

func killRank(t *Task) int {
	return slices.Index([]string{Running, Starting, Staging, Unreachable}, t.State) // -1, the last, for others
}
