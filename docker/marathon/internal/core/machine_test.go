package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

func TestConstraints(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		constraints string
		instances   int
		want        string // hosts
	}{
		"without any they spread":         {`[]`, 6, "[h0 h0 h1 h1 h2 h2]"},
		"UNIQUE leaves what does not fit": {`[["hostname","UNIQUE"]]`, 4, "[h0 h1 h2]"},
		"CLUSTER with a value":            {`[["hostname","CLUSTER","h1"]]`, 2, "[h1 h1]"},
		"CLUSTER takes the first one's":   {`[["hostname","CLUSTER"]]`, 2, "[h0 h0]"},
		"LIKE wants the whole value":      {`[["hostname","LIKE","h[12]"]]`, 2, "[h1 h2]"},
		"LIKE of a part fits nothing":     {`[["hostname","LIKE","h"]]`, 1, "[]"},
		"a lookahead, as in Java":         {`[["hostname","LIKE","(?!h[01]).*"]]`, 1, "[h2]"},
		"UNLIKE":                          {`[["hostname","UNLIKE","h[12]"]]`, 2, "[h0 h0]"},
		"UNLIKE passes without attribute": {`[["nothing","UNLIKE","x"]]`, 1, "[h0]"},
		"others do not":                   {`[["nothing","LIKE",".*"]]`, 1, "[]"},
		"MAX_PER":                         {`[["hostname","MAX_PER","1"]]`, 5, "[h0 h1 h2]"},
		"GROUP_BY balances an attribute":  {`[["rack","GROUP_BY"]]`, 4, "[h0 h1 h1 h2]"},
		"GROUP_BY with too few groups":    {`[["rack","GROUP_BY","3"]]`, 4, "[h0 h1]"},
		"IS":                              {`[["rack","IS","r1"]]`, 2, "[h1 h1]"},
		"two have to be fulfilled":        {`[["rack","CLUSTER","r0"],["hostname","UNIQUE"]]`, 3, "[h0 h2]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.mustPut(fmt.Sprintf(`{"id":"/a","cmd":"run","cpus":0.1,"instances":%d,"constraints":%s}`, tt.instances, tt.constraints))
			c.run()
			if got := fmt.Sprint(c.hosts("/a")); got != tt.want {
				t.Errorf("on %s, want %s", got, tt.want)
			}
			queue := c.m.Queue(c.now, true)
			if missing := tt.instances - len(c.hosts("/a")); missing > 0 {
				if len(queue) != 1 || queue[0]["count"] != missing {
					t.Errorf("queue %v, want %d waiting", queue, missing)
				}
				offers := queue[0]["lastUnusedOffers"].([]map[string]any)
				if len(offers) == 0 || offers[0]["reason"].([]string)[0] != "UnfulfilledConstraint" {
					t.Errorf("offers %v, want UnfulfilledConstraint", offers)
				}
			} else if len(queue) != 0 {
				t.Errorf("queue %v, want none", queue)
			}
		})
	}
}

func TestReasonsOfRejects(t *testing.T) {
	t.Parallel()
	for reason, text := range map[string]string{
		"InsufficientCpus":   `{"id":"/a","cmd":"run","cpus":5}`,
		"InsufficientMemory": `{"id":"/a","cmd":"run","mem":5000}`,
		"InsufficientDisk":   `{"id":"/a","cmd":"run","disk":5000}`,
		"InsufficientPorts":  `{"id":"/a","cmd":"run","instances":2,"cpus":0.1,"portDefinitions":[{"port":8000}],"requirePorts":true}`,
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.mustPut(text)
			c.run()
			queue := c.m.Queue(c.now, false)
			if len(queue) != 1 {
				t.Fatalf("queue %v, want one app", queue)
			}
			summary := queue[0]["processedOffersSummary"].(map[string]any)["rejectSummaryLastOffers"].([]map[string]any)
			for _, r := range summary {
				if r["reason"] == reason && r["declined"] != 3 {
					t.Errorf("%v, want 3 declined", r)
				}
			}
		})
	}
}

// A service that waits starts as soon as there is room.
func TestFreedResourcesAreUsedAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.mustPut(`{"id":"/big","cmd":"run","cpus":4,"instances":3}`)
	c.run()
	c.mustPut(`{"id":"/late","cmd":"run","cpus":4,"instances":1}`)
	c.run()
	if n := len(c.hosts("/late")); n != 0 {
		t.Fatalf("%d tasks of /late, want none yet", n)
	}
	c.mustPut(`{"id":"/big","cmd":"run","cpus":4,"instances":2}`)
	c.run()
	if n := len(c.hosts("/late")); n != 1 {
		t.Errorf("%d tasks of /late, want 1", n)
	}
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.broken["broken"] = true
	c.mustPut(`{"id":"/a","cmd":"broken","backoffSeconds":2,"backoffFactor":2,"maxLaunchDelaySeconds":60}`)
	c.run()
	if c.launches != 1 {
		t.Fatalf("%d launches, want 1", c.launches)
	}
	queue := c.m.Queue(c.now, false)
	if len(queue) != 1 || queue[0]["delay"].(map[string]any)["timeLeftSeconds"] != 2 {
		t.Errorf("queue %v, want 2 seconds left", queue)
	}
	c.wait(1900 * time.Millisecond)
	if c.launches != 1 {
		t.Errorf("%d launches before the delay is over, want 1", c.launches)
	}
	c.wait(200 * time.Millisecond)
	if c.launches != 2 {
		t.Errorf("%d launches after it, want 2", c.launches)
	}
	c.wait(7 * time.Minute)
	if c.launches < 9 || c.launches > 14 {
		t.Errorf("%d launches in 7 minutes, want one a minute in the end", c.launches)
	}
	before := c.launches
	if !c.m.ResetDelay(c.now, "/a") {
		t.Error("there is no delay to reset")
	}
	c.run()
	if c.launches != before+1 {
		t.Errorf("%d launches after a reset, want %d", c.launches, before+1)
	}
	if f := c.m.View(c.m.App("/a"), core.Embed{LastTaskFailure: true}).LastTaskFailure; f == nil || f.State != core.Failed {
		t.Errorf("last failure %v", f)
	}
	c.mustForce(`{"id":"/a","cmd":"works"}`)
	c.run()
	if len(c.m.Deployments()) != 0 || len(c.hosts("/a")) != 1 {
		t.Errorf("deployments %v, hosts %v after the repair", c.m.Deployments(), c.hosts("/a"))
	}
}

func (c *cluster) mustForce(text string) {
	c.t.Helper()
	if _, err := c.change(text, true); err != nil {
		c.t.Fatal(err)
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.broken["broken"] = true
	c.mustPut(`{"id":"/a","cmd":"broken"}`)
	_, err := c.put(`{"id":"/a","cmd":"works"}`)
	var refused *core.Error
	if !errors.As(err, &refused) || refused.Status != 409 || refused.Body["deployments"] == nil {
		t.Fatalf("got %v, want a 409 that names the deployment", err)
	}
	if c.m.App("/a").Cmd == nil || *c.m.App("/a").Cmd != "broken" {
		t.Error("a refused change was made")
	}
	if _, err := c.put(`{"id":"/b","cmd":"works"}`); err != nil {
		t.Errorf("another app is locked too: %v", err)
	}
	c.mustForce(`{"id":"/a","cmd":"works"}`)
	c.run()
	if n := c.seen("deployment_failed"); n != 1 {
		t.Errorf("%d cancelled deployments, want 1", n)
	}
	if len(c.m.Deployments()) != 0 {
		t.Errorf("deployments %v, want none", c.m.Deployments())
	}
}

func TestRevertDeployment(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.broken["broken"] = true
	c.mustPut(`{"id":"/a","cmd":"works","instances":2}`)
	c.run()
	d, err := c.put(`{"id":"/a","cmd":"broken","instances":2}`)
	if err != nil {
		t.Fatal(err)
	}
	c.run()
	if _, err := c.m.RevertDeployment(c.now, core.Request{}, d.ID); err != nil {
		t.Fatal(err)
	}
	c.run()
	if *c.m.App("/a").Cmd != "works" || len(c.hosts("/a")) != 2 || len(c.m.Deployments()) != 0 {
		t.Errorf("cmd %s on %v, deployments %v", *c.m.App("/a").Cmd, c.hosts("/a"), c.m.Deployments())
	}
	d, err = c.put(`{"id":"/new","cmd":"broken"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.m.RevertDeployment(c.now, core.Request{}, d.ID); err != nil {
		t.Fatal(err)
	}
	c.run()
	if c.m.App("/new") != nil {
		t.Error("undoing a creation left the app")
	}
}

func TestKillWithScale(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.mustPut(`{"id":"/a","cmd":"run","cpus":0.1,"instances":3}`)
	c.run()
	victim := c.m.Tasks("/a")[0].ID
	_, d, err := c.m.KillTasks(c.now, core.Request{}, []string{victim, "a.unknown"}, true, false)
	if err != nil || d == nil {
		t.Fatalf("deployment %v, %v", d, err)
	}
	c.run()
	if c.m.App("/a").Instances != 2 || len(c.hosts("/a")) != 2 || c.m.Task(victim) != nil {
		t.Errorf("size %d, on %v, victim %v", c.m.App("/a").Instances, c.hosts("/a"), c.m.Task(victim))
	}
	again := c.m.Tasks("/a")[0].ID
	if _, _, err := c.m.KillTasks(c.now, core.Request{}, []string{again}, false, false); err != nil {
		t.Fatal(err)
	}
	c.run()
	if len(c.hosts("/a")) != 2 || c.m.Task(again) != nil {
		t.Errorf("on %v, %s %v: want it replaced", c.hosts("/a"), again, c.m.Task(again))
	}
}

// A check of Marathon's own kills at one failure more than its limit, one of
// Mesos' at the limit; failures in the grace period count for nothing.
func TestHealthCheckKills(t *testing.T) {
	t.Parallel()
	for protocol, want := range map[string]int{"TCP": 4, "MESOS_TCP": 3} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.mustPut(fmt.Sprintf(`{"id":"/a","cmd":"run","healthChecks":[{"protocol":%q,"gracePeriodSeconds":10,"maxConsecutiveFailures":3}]}`, protocol))
			c.sick["run"] = true
			c.run()
			task := c.m.Tasks("/a")[0]
			result := func(ok bool) {
				c.now = c.now.Add(time.Millisecond)
				c.m.HandleResult(c.now, core.Result{TaskID: task.ID, OK: ok, Cause: "refused"})
			}
			result(false)
			if r := c.m.Tasks("/a")[0].HealthCheckResults; len(r) != 0 {
				t.Errorf("a failure within the grace period was recorded: %v", r)
			}
			result(true)
			if got := len(c.m.Deployments()); got != 0 {
				t.Errorf("%d deployments after the first success", got)
			}
			n := 0
			for c.m.Task(task.ID) != nil && c.m.Task(task.ID).State == core.Running && n < 20 {
				n++
				result(false)
			}
			if n != want {
				t.Errorf("killed after %d failures, want %d", n, want)
			}
			c.run()
			f := c.m.View(c.m.App("/a"), core.Embed{LastTaskFailure: true}).LastTaskFailure
			if f == nil || f.State != core.Killed || f.Message != "Task was killed since health check failed. Reason: refused" {
				t.Errorf("last failure %+v", f)
			}
			if c.seen("unhealthy_instance_kill_event") != 1 {
				t.Error("no unhealthy_instance_kill_event")
			}
		})
	}
}

func TestEngineOutage(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.mustPut(`{"id":"/a","instances":2,"container":{"docker":{"image":"x"}}}`)
	c.run()
	before := slices.Sorted(maps.Keys(c.running))
	c.m.EngineDown(c.now)
	c.run()
	for _, task := range c.m.Tasks("/a") {
		if task.State != core.Unreachable {
			t.Errorf("%s is %s while the engine is down", task.ID, task.State)
		}
	}
	c.mustPut(`{"id":"/b","instances":1,"container":{"docker":{"image":"x"}}}`)
	c.run()
	if len(c.hosts("/b")) != 0 {
		t.Error("a task was launched on an engine that is down")
	}
	// One of them has ended meanwhile.
	c.m.Recovered(c.now, false, []core.Status{
		{TaskID: before[0], State: core.Running, Handle: "x"}, {TaskID: before[1], State: core.Failed, Message: "Container exited with status 3"},
	})
	c.run()
	c.wait(2 * time.Second)
	if c.m.Task(before[0]) == nil || c.m.Task(before[0]).State != core.Running {
		t.Errorf("%s did not come back: %+v", before[0], c.m.Task(before[0]))
	}
	if c.m.Task(before[1]) != nil || len(c.hosts("/a")) != 2 || len(c.hosts("/b")) != 1 {
		t.Errorf("after the outage: %v and %v", c.m.Tasks("/a"), c.m.Tasks("/b"))
	}
}

// An engine that dies while it starts a container may leave one that runs without
// its network: it is started anew. When we die, the engine goes on, and what it
// has started is adopted.
func TestDeathDuringAStart(t *testing.T) {
	t.Parallel()
	for who, want := range map[string]int{"engine": 2, "we": 1} {
		c := newCluster(t)
		c.mustPut(`{"id":"/a","instances":1,"container":{"docker":{"image":"x"}}}`)
		task := c.m.Tasks("/a")[0].ID
		launches := c.launched(task)
		if who == "engine" {
			c.m.EngineDown(c.now)
			c.m.HandleStatus(c.now, core.Status{TaskID: task, State: core.Unreachable, Message: "connection refused"})
		} else {
			c.m = c.machine()
			if err := c.m.Load(c.disk); err != nil {
				t.Fatal(err)
			}
		}
		c.m.Recovered(c.now, false, []core.Status{{TaskID: task, State: core.Running, Handle: "half"}})
		launches += c.launched(task)
		if launches != want {
			t.Errorf("%s died: launched %d times, want %d", who, launches, want)
		}
		if state := c.m.Task(task).State; (state == core.Running) != (who == "we") {
			t.Errorf("%s died: %s", who, state)
		}
	}
}

// launched takes what is to be done, and counts the launches of a task.
func (c *cluster) launched(task string) int {
	c.store()
	n := 0
	for _, e := range c.queued {
		if e.Launch != nil && e.Launch.Task.ID == task {
			n++
		}
	}
	c.queued = nil
	return n
}

// Whatever is asked for, and whenever the process dies, in the end what was
// asked for last runs, as often as asked for, and nothing else.
func TestConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		c := newCluster(t)
		last := map[string]string{}
		sizes := map[string]int{}
		for range rapid.IntRange(1, 25).Draw(r, "ops") {
			id := rapid.SampledFrom([]string{"/a", "/g/b", "/g/c"}).Draw(r, "app")
			switch rapid.SampledFrom([]string{"put", "put", "delete", "kill", "restart", "step", "step", "crash", "die", "wait"}).Draw(r, "op") {
			case "put":
				cmd := rapid.SampledFrom([]string{"one", "two", "three"}).Draw(r, "cmd")
				n := rapid.IntRange(0, 5).Draw(r, "n")
				check := rapid.SampledFrom([]string{"", `,"healthChecks":[{"protocol":"TCP"}]`}).Draw(r, "check")
				up := rapid.SampledFrom([]string{"1,1", "0.5,0", "1,0", "0,0", "0.9,0.1"}).Draw(r, "upgrade")
				var minHC, maxOC float64
				if _, err := fmt.Sscanf(up, "%g,%g", &minHC, &maxOC); err != nil {
					r.Fatal(err)
				}
				text := fmt.Sprintf(`{"id":%q,"cmd":%q,"cpus":0.1,"instances":%d%s,"upgradeStrategy":{"minimumHealthCapacity":%g,"maximumOverCapacity":%g}}`, id, cmd, n, check, minHC, maxOC)
				if _, err := c.change(text, true); err != nil {
					r.Fatal(err)
				}
				last[id], sizes[id] = cmd, n
			case "delete":
				if last[id] == "" {
					continue
				}
				if _, err := c.m.Change(c.now, core.Request{}, core.Change{Delete: []string{id}}, true); err != nil {
					r.Fatal(err)
				}
				delete(last, id)
				delete(sizes, id)
			case "restart":
				if last[id] == "" {
					continue
				}
				if _, err := c.m.Change(c.now, core.Request{}, core.Change{Restart: []string{id}}, true); err != nil {
					r.Fatal(err)
				}
			case "kill":
				if tasks := c.m.Tasks(id); len(tasks) > 0 {
					if _, _, err := c.m.KillTasks(c.now, core.Request{}, []string{tasks[0].ID}, false, false); err != nil {
						r.Fatal(err)
					}
				}
			case "die":
				if ids := slices.Sorted(maps.Keys(c.running)); len(ids) > 0 {
					one := rapid.SampledFrom(ids).Draw(r, "victim")
					delete(c.running, one)
					c.m.HandleStatus(c.now, core.Status{TaskID: one, State: core.Failed})
				}
			case "crash":
				c.crash()
			case "wait":
				c.wait(time.Duration(rapid.IntRange(1, 40).Draw(r, "seconds")) * time.Second)
			case "step":
				for range rapid.IntRange(1, 6).Draw(r, "steps") {
					c.step()
				}
			}
			c.store()
		}
		c.run()
		c.wait(20 * time.Minute)
		if d := c.m.Deployments(); len(d) != 0 {
			r.Fatalf("deployments do not end: %v\ntasks %+v", d, c.m.Tasks(""))
		}
		for id, cmd := range last {
			tasks := c.m.Tasks(id)
			if len(tasks) != sizes[id] {
				r.Fatalf("%s has %d tasks, want %d", id, len(tasks), sizes[id])
			}
			for _, task := range tasks {
				l, ok := c.running[task.ID]
				if !ok || *l.Task.App.Cmd != cmd || task.State != core.Running {
					r.Fatalf("%s: task %+v runs %v, want %q", id, task, ok, cmd)
				}
			}
		}
		if len(c.running) != len(c.m.Tasks("")) {
			r.Fatalf("%d run, %d are known", len(c.running), len(c.m.Tasks("")))
		}
	})
}

// While a new version replaces an old one, there are always enough healthy tasks,
// and never too many at all.
func TestRollKeepsItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(r, "n")
		minHC := float64(rapid.IntRange(0, 10).Draw(r, "minHC")) / 10
		maxOC := float64(rapid.IntRange(0, 10).Draw(r, "maxOC")) / 10
		c := newCluster(t)
		app := func(cmd string) string {
			return fmt.Sprintf(`{"id":"/a","cmd":%q,"cpus":0.1,"instances":%d,"healthChecks":[{"protocol":"TCP"}],"upgradeStrategy":{"minimumHealthCapacity":%g,"maximumOverCapacity":%g}}`, cmd, n, minHC, maxOC)
		}
		c.mustPut(app("old"))
		c.run()
		bounds := core.PlanRoll(n, c.m.App("/a").UpgradeStrategy, n, n)
		c.mustPut(app("new"))
		for more := true; more; more = c.step() {
			healthy, all := 0, 0
			for _, task := range c.m.Tasks("/a") {
				all++
				if task.State == core.Running && len(task.HealthCheckResults) == 1 && task.HealthCheckResults[0].Alive {
					healthy++
				}
			}
			if healthy < bounds.MinHealthy || all > bounds.MaxCapacity {
				r.Fatalf("%d healthy of %d, want at least %d of at most %d", healthy, all, bounds.MinHealthy, bounds.MaxCapacity)
			}
		}
		if d := c.m.Deployments(); len(d) != 0 {
			r.Fatalf("the deployment does not end: %v", d)
		}
	})
}

// Tasks on an agent that was configured away stay where they are, and are shown.
func TestAgentConfiguredAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.mustPut(`{"id":"/a","cmd":"run","cpus":0.1,"instances":3}`)
	c.run()
	c.agents = c.agents[:1]
	c.crash()
	c.run()
	if got := fmt.Sprint(c.hosts("/a")); got != "[h0 h1 h2]" {
		t.Errorf("on %s", got)
	}
	n := 0
	for _, x := range c.m.Agents() {
		n += len(x.Tasks)
	}
	if n != 3 {
		t.Errorf("%d tasks are shown, want 3", n)
	}
	c.mustPut(`{"id":"/a","cmd":"new","cpus":0.1,"instances":3}`)
	c.run()
	if got := fmt.Sprint(c.hosts("/a")); got != "[h0 h0 h0]" {
		t.Errorf("the new version is on %s", got)
	}
}

// An engine that went and came back while a task was being started.
// The output of a task that has ended is still to be kept, until that is done,
// also by whoever comes after a kill -9.
func TestEndedTasksAreKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.broken["crash"] = true
	if _, err := c.put(`{"id":"/a","cmd":"crash","cpus":1,"mem":32,"labels":{"paasta_service":"web","paasta_instance":"main"}}`); err != nil {
		t.Fatal(err)
	}
	c.run()
	c.crash()
	list := c.m.Unkept()
	if len(list) == 0 {
		t.Fatal("none is to be kept")
	}
	e := list[0]
	if e.State != core.Failed || e.Message != "Command exited with status 1" || e.Service != "web" || e.Instance != "main" || !e.Process {
		t.Errorf("%+v", e)
	}
	if process, _, ok := c.m.Runner(e.ID); !process || !ok || c.m.Over(e.ID) {
		t.Error("its output is not found where it ran, or that may be removed")
	}
	c.m.Kept(e.ID)
	c.store()
	c.crash()
	if _, _, ok := c.m.Runner(e.ID); ok || !c.m.Over(e.ID) || len(c.m.Unkept()) != len(list)-1 {
		t.Error("it is still to be kept")
	}
}

func TestLaunchIsTriedAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.mustPut(`{"id":"/a","container":{"docker":{"image":"x"}}}`)
	c.store()
	task := c.m.Tasks("/a")[0].ID
	c.queued = nil
	c.m.HandleStatus(c.now, core.Status{TaskID: task, State: core.Unreachable})
	c.run()
	if got := c.m.Task(task); got == nil || got.State != core.Running || c.launches != 1 {
		t.Errorf("%+v after %d launches", got, c.launches)
	}
}

// What was there as of each version is found again, by another process, too, as
// far back as the history goes.
func TestRootsLeadBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.disk["group:/old"] = []byte(`"2019-01-01T00:00:00.000Z"`) // as it was stored once
	c.m = c.machine()
	if err := c.m.Load(c.disk); err != nil {
		t.Fatal(err)
	}
	app := func(id, cmd string) *definition.App { return parse(t, `{"id":"`+id+`","cmd":"`+cmd+`"}`) }
	type groups = map[string][]string
	var want []string
	show := func(r core.Root) string {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, change := range []core.Change{
		{Put: []*definition.App{app("/first", "run")}},
		{Put: []*definition.App{app("/g/a", "one"), app("/g/b/c", "one")}, Groups: groups{"/g": {"/first"}}},
		{Put: []*definition.App{app("/g/a", "two")}, Delete: []string{"/g/b/c"}},
		{Drop: []string{"/g/b", "/old"}},
		{Groups: groups{"/g": {}, "/h/i": nil}},
		{Delete: []string{"/g/a"}, Drop: []string{"/g"}},
	} {
		if _, err := c.m.Change(c.now, core.Request{}, change, true); err != nil {
			t.Fatal(err)
		}
		c.run()
		want = append(want, show(c.m.Root()))
	}
	if !strings.Contains(want[0], `"/old":`) {
		t.Errorf("the group that was stored once is not in %s", want[0])
	}
	slices.Reverse(want)
	for _, who := range []string{"we", "another"} {
		var got []string
		for _, r := range c.m.Roots() {
			got = append(got, show(r))
		}
		if len(got) != 5 || !slices.Equal(got, want[:5]) {
			t.Errorf("%s: %d roots\n%s\nwant\n%s", who, len(got), strings.Join(got, "\n"), strings.Join(want[:5], "\n"))
		}
		c.crash()
	}
}
