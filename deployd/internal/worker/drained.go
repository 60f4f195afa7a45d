package worker

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/agents"
	"github.com/gopaasta/paasta/deployd/internal/register"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
)

// drainTimeout is the longest time that a task drains.
func (r *round) drainTimeout() time.Duration {
	if i := r.job.Instance; i != nil && i.DrainParams.Timeout > 0 {
		return i.DrainParams.Timeout
	}
	if d := r.o.Config.Deployd.DrainTimeout; d > 0 {
		return d
	}
	return time.Minute
}

// drainNote returns what is remembered of a task's drain, which began at the
// latest now.
func (r *round) drainNote(task string) *drainNote {
	d := r.note.drains[task]
	if d == nil {
		d = &drainNote{began: r.now}
		r.note.drains[task] = d
	}
	return d
}

// A drainView is all that says whether a task drains and may be killed.
type drainView struct {
	method     drainMethod
	answer     drainAnswer // of the method, if it was asked
	running    bool
	registered bool
	weight     int
	limit      time.Duration // the longest time that it may drain
	left       time.Duration // of it
	wait       time.Duration // that is given to those who read the registry as synapse does
	grace      time.Duration // left of the it
	traffic    func() string // why it may still get requests, "" when it does not
}

// judge tells whether the task takes no more traffic, and whether nothing is
// lost by killing it: its drain method says so, every agent that lives has
// applied its weight 0, its own host sees no connection to it, and hosts that
// still run synapse had the time to see that it is gone; or it has drained for as
// long as it may.
func (v drainView) judge() (draining, safe bool, why string) {
	weightless := v.registered && v.weight == 0
	draining = weightless || v.answer.draining
	switch {
	case v.method.name == "noop" || !v.running || v.method.own == nil && !v.registered:
		return draining, true, ""
	case !draining && v.answer.err == nil:
		return false, false, ""
	}
	why = v.unsafe(weightless)
	switch {
	case why == "":
		return true, true, drained
	case draining && v.left <= 0 && (!weightless || v.grace <= 0):
		return true, true, fmt.Sprintf("not drained within the drain timeout of %s: %s", v.limit, why)
	}
	return draining, false, why
}

// drained is why a task that drained may be killed.
const drained = "drained"

// unsafe says what might be lost by killing a task that drains, "" for nothing.
func (v drainView) unsafe(weightless bool) string {
	switch {
	case v.answer.err != nil:
		return "drain method " + v.method.name + ": " + v.answer.err.Error()
	case v.method.own != nil && !v.answer.safe:
		return "drain method " + v.method.name + " says that it is not safe to kill yet"
	case !weightless:
		return ""
	}
	if why := v.traffic(); why != "" {
		return why
	}
	if v.grace > 0 {
		return fmt.Sprintf("out of the registry for less than %s: a host with synapse may not know yet", v.wait)
	}
	return ""
}

// draining judges one task.
func (r *round) draining(t marathon.Task, killing bool) (draining, safe bool, why string) {
	v := drainView{method: r.drain, answer: r.heard[t.ID], running: t.Running(), limit: r.drainTimeout()}
	v.weight, v.registered = r.weight[t.ID]
	if killing {
		return v.registered && v.weight == 0, false, "" // whether it was safe has been decided
	}
	if weightless := r.weightless(t.ID); v.running && r.drain.name != "noop" && (weightless || v.answer.draining) {
		d := r.drainNote(t.ID)
		if weightless && d.version == nil {
			// The version of this read holds the weight 0, and whoever has applied
			// it has applied that. After a restart it may be a later one, which is
			// as good.
			d.version = map[string]int64{}
			for name, set := range r.sets {
				for _, n := range set.Nodes {
					if n.Labels[registry.LabelTaskID] == t.ID {
						d.version[name] = set.Version
					}
				}
			}
		}
		v.left, v.wait = v.limit-r.now.Sub(d.began), r.grace(r.now)
		v.grace = v.wait - r.now.Sub(d.began)
		v.traffic = func() string { return r.traffic(t, d) }
	}
	draining, safe, why = v.judge()
	if why != "" {
		r.why[t.ID] = why
	}
	if v.grace > 0 {
		r.soon(v.grace)
	}
	switch {
	case v.left <= 0:
	case r.drain.own != nil && !safe:
		r.soon(min(v.left, time.Second))
	default:
		r.soon(v.left)
	}
	return draining, safe, why
}

// traffic says why a draining task may still get requests, "" when it does not.
func (r *round) traffic(t marathon.Task, d *drainNote) string {
	live, lingering := r.o.Agents.Live()
	if len(live) == 0 && len(lingering) == 0 {
		if ok, left := r.o.Agents.Settled(); !ok {
			r.soon(left)
			return "waiting whether agents are announced"
		}
		return "" // nobody routes
	}
	for _, name := range slices.Sorted(maps.Keys(d.version)) {
		if ns, ok := r.current[name]; ok && ns.ProxyPort == nil {
			continue // in no HAProxy
		}
		sees := r.sees(name, t)
		for _, a := range live {
			if !sees(a) {
				continue // its clients find the task nowhere
			}
			applied, carries := a.Applied[name]
			if carries && applied >= d.version[name] {
				continue
			}
			if _, known := r.current[name]; !carries && !known {
				continue // the namespace is gone: agents do not have it any more
			}
			return fmt.Sprintf("the HAProxy of %s has not applied the drain in %s yet", a.Host, name)
		}
	}
	for _, a := range lingering {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(d.version)), func(name string) bool { return r.sees(name, t)(a) }) {
			continue
		}
		r.soon(time.Second)
		return fmt.Sprintf("the agent of %s has gone without applying the drain", a.Host)
	}
	if !d.applied {
		d.applied = true
		r.lag.saw(r.now.Sub(d.began), r.now)
	}
	if len(t.Ports) == 0 {
		return ""
	}
	host := r.host(t)
	own, ok := agents.Of(live, host)
	if !ok {
		own, ok = agents.Of(live, t.Host)
	}
	if !ok {
		return fmt.Sprintf("no agent on %s tells whether connections are left", t.Host)
	}
	n, err := r.o.Agents.Connections(own, host, t.Ports[0])
	switch {
	case err != nil:
		return fmt.Sprintf("the agent of %s: %v", own.Host, err)
	case n == 1:
		return "1 connection is left"
	case n > 0:
		return fmt.Sprintf("%d connections are left", n)
	}
	return ""
}

// sees returns what tells whether clients on an agent's host find a task under a
// registration: whether it runs in a location that they discover.
func (r *round) sees(name string, t marathon.Task) func(paasta.AgentNode) bool {
	ns, ok := r.current[name]
	if !ok {
		return func(paasta.AgentNode) bool { return true } // what it was is not known
	}
	where := r.locations()
	labels := where.Labels(r.location(t.Host), ns.Advertise, ns.ExtraAdvertise)
	return func(a paasta.AgentNode) bool {
		return where.Within(where.Discovered(a.Location, ns.Discover, ns.Advertise), labels)
	}
}

func (r *round) locations() paasta.Locations {
	return paasta.Locations{Types: r.o.Config.LocationTypes, Parents: r.o.Config.LocationParents}
}

// entry is a task's entry in a registration, but for its weight.
func (r *round) entry(name string, a marathon.App, t marathon.Task) registry.Entry {
	labels := map[string]string{}
	if ns, ok := r.current[name]; ok {
		labels = r.locations().Labels(r.location(t.Host), ns.Advertise, ns.ExtraAdvertise)
	}
	labels[registry.LabelCluster] = r.o.Config.Cluster
	labels[registry.LabelInstance] = r.job.ID.Instance
	labels[registry.LabelTaskID] = t.ID
	if id, err := paasta.ParseAppID(a.ID); err == nil {
		labels[registry.LabelConfigSHA] = id.Config
	}
	if sha := a.Labels[marathon.LabelGitSHA]; sha != "" {
		labels[registry.LabelGitSHA] = sha
	}
	return registry.Entry{Host: r.host(t), Port: t.Ports[0], Name: t.Host, Labels: labels}
}

// location is where a host is: its attributes, where the system config knows
// it, and otherwise where deployd itself is.
func (r *round) location(host string) map[string]string {
	for _, agent := range r.o.Config.ExpectedAgents {
		if agent["hostname"] == host {
			return agent
		}
	}
	return r.o.Config.Location
}

// changes are the changes of one registration, with what the steps want.
func (r *round) changes(name string) register.Changes {
	_, current := r.current[name]
	in := register.Input{
		Cluster: r.o.Config.Cluster, Instance: r.job.ID, Current: current || r.vague[name], Nodes: r.sets[name].Nodes,
	}
	for _, a := range r.apps {
		for _, t := range a.Tasks {
			task := register.Task{Task: t, Want: r.want[t.ID]}
			if len(t.Ports) > 0 {
				task.Entry = r.entry(name, a, t)
			} else if task.Want == register.Serve || task.Want == register.Drain {
				task.Want = register.Keep
			}
			if r.vague[name] && task.Want == register.Serve && r.weight[t.ID] > 0 {
				task.Want = register.Keep // its labels cannot be told now
			}
			in.Tasks = append(in.Tasks, task)
		}
	}
	return register.Decide(in)
}
