package core_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A cluster is a machine, with its disk and with runners that do at once what
// they are told.
type cluster struct {
	t        testing.TB
	m        *core.Machine
	now      time.Time
	disk     map[string]json.RawMessage
	running  map[string]core.Launch // by task
	queued   []core.Effect
	events   []core.Event
	launches int
	broken   map[string]bool // commands whose tasks fail as soon as they run
	sick     map[string]bool // commands whose health checks fail
	agents   []core.Agent
	ids      int
}

func newCluster(t testing.TB, agents ...core.Agent) *cluster {
	if len(agents) == 0 {
		for i := range 3 {
			agents = append(agents, core.Agent{
				ID: fmt.Sprint("S", i), Hostname: fmt.Sprint("h", i), Address: fmt.Sprintf("10.77.%d.1", i+1), CPUs: 4, Mem: 4096, Disk: 1000,
				PortLow: 31000, PortHigh: 31099, Attributes: map[string]string{"rack": fmt.Sprint("r", i%2)},
			})
		}
	}
	c := &cluster{
		t: t, now: time.Date(2020, 2, 1, 10, 0, 0, 0, time.UTC), disk: map[string]json.RawMessage{}, running: map[string]core.Launch{},
		broken: map[string]bool{}, sick: map[string]bool{}, agents: agents,
	}
	c.m = c.machine()
	return c
}

func (c *cluster) machine() *core.Machine {
	return core.New(core.Config{
		Agents: c.agents, ServicePortLow: 10000, ServicePortHigh: 20000, MaxDeployments: 100, DefaultGrace: time.Second,
		KillRetry: 30 * time.Second, VersionsPerObject: 5,
		NewID: func() string { c.ids++; return fmt.Sprintf("id-%06d", c.ids) },
	})
}

// store writes to the disk, and takes in what follows.
func (c *cluster) store() {
	for k, v := range c.m.Changes() {
		text, err := json.Marshal(v)
		if err != nil {
			c.t.Fatal(err)
		}
		if string(text) == "null" {
			delete(c.disk, k)
		} else {
			c.disk[k] = text
		}
	}
	c.events = append(c.events, c.m.Events()...)
	c.queued = append(c.queued, c.m.Effects()...)
}

// step does one queued effect; it reports false when there is none.
func (c *cluster) step() bool {
	c.store()
	if len(c.queued) == 0 {
		return false
	}
	e := c.queued[0]
	c.queued = c.queued[1:]
	c.now = c.now.Add(time.Millisecond)
	switch {
	case e.Launch != nil:
		c.launches++
		id := e.Launch.Task.ID
		if cmd := e.Launch.Task.App.Cmd; cmd != nil && c.broken[*cmd] {
			c.m.HandleStatus(c.now, core.Status{TaskID: id, State: core.Failed, Message: "Command exited with status 1"})
			break
		}
		c.running[id] = *e.Launch
		c.m.HandleStatus(c.now, core.Status{TaskID: id, State: core.Running, Handle: core.ProcessHandle + id})
	case e.Kill != nil:
		delete(c.running, e.Kill.TaskID)
		c.m.HandleStatus(c.now, core.Status{TaskID: e.Kill.TaskID, State: core.Failed, Message: "Killed"})
	case e.Watch != nil:
		for i := range e.Watch.Task.App.HealthChecks {
			if c.running[e.Watch.Task.ID].Task.ID != "" {
				ok := !c.sick[*e.Watch.Task.App.Cmd]
				c.m.HandleResult(c.now, core.Result{TaskID: e.Watch.Task.ID, Index: i, OK: ok, Cause: "503"})
			}
		}
	}
	c.check()
	c.store()
	return true
}

func (c *cluster) run() {
	for range 100_000 {
		if !c.step() {
			return
		}
	}
	c.t.Fatal("there is no end to what is to be done")
}

// wait lets time pass.
func (c *cluster) wait(d time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); {
		next := c.m.Next(c.now)
		if next.After(end) {
			next = end
		}
		c.now = next
		c.m.Tick(c.now)
		c.run()
	}
}

// crash loses everything but the disk and what runs. Effects that were stored
// but not done are lost.
func (c *cluster) crash() {
	c.queued = nil
	c.m = c.machine()
	if err := c.m.Load(c.disk); err != nil {
		c.t.Fatal(err)
	}
	var found []core.Status
	for _, id := range slices.Sorted(maps.Keys(c.running)) {
		found = append(found, core.Status{TaskID: id, State: core.Running, Handle: core.ProcessHandle + id})
	}
	c.m.Recovered(c.now, true, found)
	c.m.Recovered(c.now, false, nil)
	c.store()
}

// check looks at what must always be true.
func (c *cluster) check() {
	c.t.Helper()
	type place struct {
		host string
		port int
	}
	used := map[place]string{}
	for _, t := range c.m.Tasks("") {
		for _, p := range t.Ports {
			where := place{t.Host, p}
			if used[where] != "" {
				c.t.Fatalf("port %v is %s's and %s's", where, used[where], t.ID)
			}
			used[where] = t.ID
		}
	}
}

func (c *cluster) put(text string) (*core.Deployment, error) {
	c.t.Helper()
	return c.change(text, false)
}

func (c *cluster) change(text string, force bool) (*core.Deployment, error) {
	c.t.Helper()
	v, err := definition.Decode([]byte(text))
	if err != nil {
		c.t.Fatal(err)
	}
	a, err := definition.Parse(v.(definition.Object), "/")
	if err != nil {
		c.t.Fatal(err)
	}
	d, err := c.m.Change(c.now, core.Request{}, core.Change{Put: []*definition.App{a}}, force)
	c.now = c.now.Add(time.Millisecond)
	return d, err
}

func (c *cluster) mustPut(text string) {
	c.t.Helper()
	if _, err := c.put(text); err != nil {
		c.t.Fatal(err)
	}
}

// hosts returns the hosts of an app's tasks, sorted.
func (c *cluster) hosts(id string) []string {
	list := []string{}
	for _, t := range c.m.Tasks(id) {
		list = append(list, t.Host)
	}
	slices.Sort(list)
	return list
}

func (c *cluster) seen(kind string) int {
	n := 0
	for _, e := range c.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}
