package worker

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/agents"
	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
)

// maxAsked is how many hosts say whether a task is happy.
const maxAsked = 20

// judge returns how well a task does. Agents are asked while the instance is
// not where it should be; once it is, healthy tasks count as happy, or 1,000
// services would each be asked about all the time.
func (r *round) judge(planned bool, size int) func(marathon.App, marathon.Task) bounce.Health {
	up, why := r.asker(planned, size)
	return func(a marathon.App, t marathon.Task) bounce.Health {
		uptime := r.minUptime()
		switch {
		case !t.Running():
			return bounce.NotRunning
		case !healthy(a, t, uptime, r.now):
			switch {
			case t.StartedAt.IsZero():
				r.why[t.ID] = "Marathon does not say yet when it started"
			case a.HealthChecks == 0:
				r.soon(young(t, uptime, r.now))
				r.why[t.ID] = fmt.Sprintf("runs for less than %s", uptime)
			case t.Results == 0:
				r.why[t.ID] = "no health check result yet"
			default:
				r.why[t.ID] = fmt.Sprintf("%d of %d health checks pass", t.Alive, a.HealthChecks)
				if t.Cause != "" {
					r.why[t.ID] += ": " + oneLine(t.Cause)
				}
			}
			return bounce.Unhealthy
		}
		if left := young(t, uptime, r.now); left > 0 {
			r.soon(left)
			r.why[t.ID] = fmt.Sprintf("runs for less than %s", uptime)
			return bounce.Healthy
		}
		if up == nil && why == "" {
			return bounce.Happy
		}
		if w, ok := r.weight[t.ID]; ok && w == 0 {
			return bounce.Happy // draining: asked no more
		}
		reason := r.fresh(t.ID)
		if reason == "" && up != nil {
			reason = up(t)
		}
		if reason != "" {
			r.why[t.ID] = reason
			delete(r.note.happy, t.ID)
			return bounce.Healthy
		}
		r.note.happy[t.ID] = true
		if why != "" {
			r.why[t.ID] = why
		}
		return bounce.Happy
	}
}

// fresh says that hosts that run the original synapse, which cannot be asked, may
// not know a task yet, "" once they had the time.
func (r *round) fresh(task string) string {
	grace := r.grace(r.now)
	if grace == 0 {
		return ""
	}
	since, registered := r.note.served[task]
	left := grace
	if registered {
		left -= r.now.Sub(since)
	}
	if left <= 0 {
		return ""
	}
	r.soon(left)
	return fmt.Sprintf("registered for less than %s: a host with synapse may not know it yet", grace)
}

// maxCause bounds what of a health check's answer is shown.
const maxCause = 200

// oneLine makes one short line of what a task said.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxCause {
		s = strings.ToValidUTF8(s[:maxCause], "") + "…"
	}
	return s
}

// unhealthy says why the first task of the app that should run is unhealthy, ""
// when none is.
func (r *round) unhealthy() string {
	for n, a := range r.apps {
		for m, t := range a.Tasks {
			if a.ID == r.state.App && t.Failing && r.state.Apps[n].Tasks[m].Health == bounce.Unhealthy {
				return fmt.Sprintf("%s on %s: %s", t.ID[strings.LastIndexByte(t.ID, '.')+1:], t.Host, r.why[t.ID])
			}
		}
	}
	return ""
}

// asker returns a function that says why a healthy task is not in the load
// balancers yet, "" when it is; nil when nobody needs to be asked. unasked says
// that nobody could be.
func (r *round) asker(planned bool, size int) (ask func(marathon.Task) string, unasked string) {
	i := r.job.Instance
	if i == nil || !planned || len(i.Registrations) == 0 {
		return nil, ""
	}
	primary := i.Registrations[0]
	ns, ok := r.current[primary]
	check := ok && ns.ProxyPort != nil
	if i.BounceHealth.CheckHAProxy != nil {
		check = check && *i.BounceHealth.CheckHAProxy
	}
	if !check || r.settled(size) {
		return nil, ""
	}
	live, lingering := r.o.Agents.Live()
	if len(live) == 0 && len(lingering) == 0 {
		if ok, left := r.o.Agents.Settled(); !ok {
			r.soon(left)
			return func(marathon.Task) string { return "waiting whether agents are announced" }, ""
		}
		return nil, "no agent is announced: healthy is taken for happy"
	}
	fraction := i.BounceHealth.MinFractionUp
	if fraction <= 0 || fraction > 1 {
		fraction = 1
	}
	if len(lingering) > 0 {
		r.soon(time.Second)
	}
	serving := r.serving(primary)
	backends := map[string]func() (paasta.AgentBackends, error){} // by host; each is asked once
	for _, a := range live {
		backends[a.Host] = sync.OnceValues(func() (paasta.AgentBackends, error) { return r.o.Agents.Backends(a, primary) })
	}
	return func(t marathon.Task) string {
		if len(t.Ports) == 0 {
			return "has no port"
		}
		sees := r.sees(primary, t)
		elsewhere := func(a paasta.AgentNode) bool { return !sees(a) }
		up, of, missing := 0, 0, ""
		for _, a := range agents.Pick(slices.DeleteFunc(slices.Clone(live), elsewhere), serving, r.job.ID.String(), maxAsked) {
			answer, err := backends[a.Host]()
			n := slices.IndexFunc(answer.Backends, func(b paasta.AgentBackend) bool { return b.Host == r.host(t) && b.Port == t.Ports[0] })
			switch {
			case err != nil:
				missing = fmt.Sprintf("the agent of %s: %v", a.Host, err)
			case n < 0:
				missing = fmt.Sprintf("not yet in the HAProxy of %s", a.Host)
			case answer.Backends[n].Status == paasta.BackendElsewhere:
				continue // it knows better than we do where it is
			case !answer.Backends[n].Up:
				missing = fmt.Sprintf("not yet up in the HAProxy of %s (%s %s)", a.Host, answer.Backends[n].Status, answer.Backends[n].LastCheck)
			default:
				up++
			}
			of++
		}
		for _, a := range slices.DeleteFunc(slices.Clone(lingering), elsewhere) {
			if of < maxAsked {
				of++
				missing = fmt.Sprintf("the agent of %s has gone", a.Host)
			}
		}
		switch need := int(math.Ceil(float64(of)*fraction - 1e-9)); {
		case up < need:
			return fmt.Sprintf("%s; up in %d of %d, %d are needed", missing, up, of, need)
		case of > 0:
			return ""
		}
		if ok, left := r.o.Agents.Settled(); !ok {
			r.soon(left)
			return "waiting whether agents are announced where it can be discovered"
		}
		return "" // nobody there routes
	}, ""
}

// serving tells whether an agent's host runs tasks under a registration: where a
// service runs, it is likely to be asked for.
func (r *round) serving(name string) func(paasta.AgentNode) bool {
	hosts := map[string]bool{}
	for _, n := range r.sets[name].Nodes {
		hosts[n.Host], hosts[n.Name] = true, true
	}
	for _, a := range r.apps {
		for _, t := range a.Tasks {
			hosts[r.host(t)], hosts[t.Host] = true, true
		}
	}
	return func(a paasta.AgentNode) bool {
		return hosts[a.Host] || slices.ContainsFunc(a.Addrs, func(address string) bool { return hosts[address] })
	}
}

// settled tells whether the instance has been brought to where it is now, so
// that nobody is asked about it: one app, the one that should run, of the right
// size, every task of which was seen happy.
func (r *round) settled(size int) bool {
	if r.note.finished != r.state.App || len(r.apps) != 1 || r.apps[0].ID != r.state.App || len(r.apps[0].Tasks) != size {
		return false
	}
	for _, t := range r.apps[0].Tasks {
		if w := r.weight[t.ID]; !r.note.happy[t.ID] || w == 0 {
			return false
		}
	}
	return true
}
