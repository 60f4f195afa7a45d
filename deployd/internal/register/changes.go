package register

import (
	"maps"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
)

// Owner returns the app that a task id of Marathon's belongs to.
func Owner(taskID string) (paasta.AppID, error) {
	app := taskID
	if before, _, ok := strings.Cut(taskID, ".instance-"); ok {
		app = before
	} else if n := strings.LastIndex(taskID, "."); n >= 0 {
		app = taskID[:n]
	}
	return paasta.ParseAppID(app)
}

// A Want is what should be done with one task's entries.
type Want int

// The wants.
const (
	Keep  Want = iota // as it is: unknown never changes anything
	Serve             // registered, taking traffic
	Drain             // registered with weight 0 where it is registered
	Gone              // not registered: planned, it has been drained or never counted
	Lost              // not registered: nobody planned that
)

// Input is what Changes looks at, for one registration.
type Input struct {
	Cluster  string
	Instance paasta.InstanceID
	// Current tells whether the instance is registered here; if not, its
	// entries are leftovers.
	Current bool
	Nodes   []registry.Node
	Tasks   []Task // all tasks that Marathon lists
}

// A Task is a task and what is wanted of it.
type Task struct {
	marathon.Task
	Want  Want
	Entry registry.Entry // as it should be, but for the weight
}

// Changes are the changes of one registration. Unplanned removals are apart:
// the guard has a word in them.
type Changes struct {
	Add       []registry.Entry
	Remove    []registry.Node
	Unplanned []registry.Node
}

// Empty tells whether there is nothing to change at once.
func (c Changes) Empty() bool { return len(c.Add) == 0 && len(c.Remove) == 0 }

// Owned returns those of nodes that belong to an instance: of this cluster, and
// of a task of one of its apps.
func Owned(nodes []registry.Node, cluster string, id paasta.InstanceID) []registry.Node {
	var own []registry.Node
	for _, n := range nodes {
		if n.Labels[registry.LabelCluster] != cluster {
			continue
		}
		if app, err := Owner(n.Labels[registry.LabelTaskID]); err == nil && app.InstanceID == id {
			own = append(own, n)
		}
	}
	return own
}

// Decide compares what is registered with what is wanted. It is pure.
func Decide(in Input) Changes {
	var c Changes
	byTask := map[string][]registry.Node{}
	for _, n := range Owned(in.Nodes, in.Cluster, in.Instance) {
		id := n.Labels[registry.LabelTaskID]
		byTask[id] = append(byTask[id], n)
	}
	for _, t := range in.Tasks {
		nodes := byTask[t.ID]
		delete(byTask, t.ID)
		want := t.Want
		if !in.Current && want != Gone && len(nodes) > 0 {
			c.Unplanned = append(c.Unplanned, nodes...)
			continue
		}
		switch want {
		case Gone:
			c.Remove = append(c.Remove, nodes...)
		case Lost:
			c.lose(nodes)
		case Drain:
			c.put(t.Entry, 0, nodes, false)
		case Serve:
			if in.Current {
				c.put(t.Entry, registry.DefaultWeight, nodes, true)
			}
		}
	}
	// What is left has no task: Marathon says that it is gone.
	for _, id := range slices.Sorted(maps.Keys(byTask)) {
		c.lose(byTask[id])
	}
	return c
}

// lose removes the entries of a task that is no more: planned if it was
// draining, which only we do.
func (c *Changes) lose(nodes []registry.Node) {
	for _, n := range nodes {
		if n.Weight == 0 {
			c.Remove = append(c.Remove, n)
		} else {
			c.Unplanned = append(c.Unplanned, n)
		}
	}
}

// put makes the entry be there once, with a weight.
func (c *Changes) put(e registry.Entry, weight int, nodes []registry.Node, create bool) {
	e.Weight = weight
	if len(nodes) == 0 {
		if create {
			c.Add = append(c.Add, e)
		}
		return
	}
	for n, node := range nodes {
		if n == 0 && same(node.Entry, e) {
			continue
		}
		c.Remove = append(c.Remove, node)
		if n == 0 {
			c.Add = append(c.Add, e)
		}
	}
}

func same(a, b registry.Entry) bool {
	return a.Host == b.Host && a.Port == b.Port && a.Name == b.Name && a.Weight == b.Weight && maps.Equal(a.Labels, b.Labels)
}
