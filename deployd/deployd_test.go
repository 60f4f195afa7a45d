package deployd_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/marathontest"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/registry"
)

var hosts = []string{"10.77.1.1", "10.77.2.1", "10.77.3.1"}

func TestFirstDeployAndTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("host1", hosts...)
	w.agent("host2")
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	app := w.untilRunning(sha1, 3)
	w.untilState("steady")

	def := w.marathon.Definition(app)
	if got := def["labels"].(map[string]any)["paasta_cluster"]; got != cluster {
		t.Errorf("label paasta_cluster = %v", got)
	}
	entry := w.entries()[0]
	for key, want := range map[string]string{
		registry.LabelCluster: cluster, registry.LabelInstance: "main", registry.LabelGitSHA: sha1,
		registry.LabelConfigSHA: app[strings.LastIndex(app, ".")+1:],
	} {
		if got := entry.Labels[key]; got != want {
			t.Errorf("entry's label %s = %q, want %q", key, got, want)
		}
	}

	w.deploy(sha2)
	w.untilRunning(sha2, 3)
	s := w.untilState("steady")
	if len(s.Steps) == 0 {
		t.Error("status shows no steps")
	}
	for _, step := range s.Steps {
		if step.Why == "" {
			t.Errorf("step %+v says not why", step)
		}
	}
	w.until("deploy log", func() string {
		text, _, err := w.conn.Get(w.ctx(), paasta.DeployLogPath(cluster, "web"))
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(string(text), "finishing. Now running "+w.marathon.Apps()[0]) {
			return string(text)
		}
		return ""
	})
	text, _, err := w.conn.Get(w.ctx(), paasta.DeploymentsPath(cluster, "web"))
	must(t, err)
	file, err := deployments.Decode(text)
	must(t, err)
	if got := file.V2.Deployments[cluster+".main"].GitSHA; got != sha2 {
		t.Errorf("%s says %s", paasta.DeploymentsPath(cluster, "web"), got)
	}
}

// From a tag that is there to the app in Marathon: well under a second, with
// nothing to poll for.
func TestKickIsFast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	began := time.Now()
	w.deploy(sha2)
	w.until("app", func() string {
		if w.marathon.Definition(w.marathon.Posted()[len(w.marathon.Posted())-1]) == nil || len(w.marathon.Posted()) < 2 {
			return fmt.Sprint(w.marathon.Posted())
		}
		return ""
	})
	took := time.Since(began)
	t.Logf("kick → app in Marathon: %s", took)
	if took > time.Second {
		t.Errorf("kick → app in Marathon took %s", took)
	}
}

// A task is registered once it is healthy, and an old one is drained for each
// that is happy; nothing that serves goes before its successor does.
func TestCrossoverStepByStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.agent("host1", hosts...)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.untilState("steady")
	w.marathon.Auto(false)
	w.deploy(sha2)
	w.until("new app", func() string {
		if len(w.marathon.Apps()) != 2 {
			return "not created"
		}
		return ""
	})
	newApp := w.marathon.Posted()[1]
	var tasks []marathontest.Task
	w.until("new tasks", func() string {
		if tasks = w.marathon.Tasks(newApp); len(tasks) != 3 {
			return fmt.Sprint(tasks)
		}
		return ""
	})
	for n, task := range tasks {
		a.change(func() { a.refuse[task.ID] = true })
		w.marathon.Run(task.ID)
		w.marathon.Healthy(task.ID, true)
		w.until("registered", func() string {
			if w.serving() != 3-n+n+1 {
				return fmt.Sprintf("%d serve", w.serving())
			}
			return ""
		})
		w.until("why", func() string {
			for _, bt := range w.status("web", "main").Tasks {
				if bt.ID == task.ID && strings.Contains(bt.Why, "PROBING") && bt.State == "healthy" {
					return ""
				}
			}
			return "the status does not say that the task is not up yet"
		})
		a.change(func() { delete(a.refuse, task.ID) })
		w.until("an old task goes", func() string {
			if old := len(w.marathon.Tasks(w.marathon.Posted()[0])); old != 2-n {
				return fmt.Sprintf("%d old tasks", old)
			}
			return ""
		})
	}
	w.untilRunning(sha2, 3)
	w.untilState("steady")
}

func (w *world) serving() int {
	n := 0
	for _, e := range w.entries() {
		if e.Weight > 0 {
			n++
		}
	}
	return n
}

// A draining task lives until all agents have applied it and no connection is
// left on its host.
func TestDrainWaitsForAgentsAndConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.instance("instances: 1\n")
	own := w.agent("host1", hosts...)
	far := w.agent("host2")
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 1)
	w.untilState("steady")
	old := w.marathon.Tasks("")[0]
	own.change(func() { own.connections[old.Port] = 1 })
	w.deploy(sha2)
	draining := func(want string) {
		t.Helper()
		w.until("drains: "+want, func() string {
			for _, task := range w.status("web", "main").Tasks {
				if task.ID == old.ID && task.State == "draining" && strings.Contains(task.Why, want) {
					return ""
				}
			}
			return "status says something else"
		})
		if len(w.marathon.Tasks(old.App[1:])) != 1 {
			t.Errorf("%s: the task is gone", want)
		}
	}
	draining("1 connection is left")
	far.change(func() { far.frozen = true })
	own.change(func() { own.connections[old.Port] = 0 })
	w.untilRunning(sha2, 1) // far had applied it before it froze

	w.untilState("steady")
	far.change(func() { far.frozen = false })
}

func TestStopStartRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	first := w.untilRunning(sha1, 3)
	w.tag(cluster+".main", paasta.TagStop, sha1)
	w.kick("web")
	w.untilRunning(sha1, 0)
	w.untilState("stopped")
	w.tag(cluster+".main", paasta.TagStart, sha1)
	w.kick("web")
	w.untilRunning(sha1, 3)
	w.untilState("steady")
	w.tag(cluster+".main", paasta.TagStart, sha1)
	w.kick("web")
	w.until("restart", func() string {
		if n := len(w.marathon.Posted()); n != 4 {
			return fmt.Sprintf("%d apps were made", n)
		}
		return ""
	})
	if last := w.untilRunning(sha1, 3); last == first {
		t.Error("a restart makes no new app")
	}
}

// A change of size keeps the app, takes effect without a kick, and drains what
// goes.
func TestScale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("host1", hosts...)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	app := w.untilRunning(sha1, 3)
	for _, n := range []int{5, 2} {
		w.instance(fmt.Sprintf("instances: %d\n", n))
		if got := w.untilRunning(sha1, n); got != app {
			t.Errorf("size %d made another app: %s", n, got)
		}
	}
	w.instance("instances: 2\nmin_instances: 1\nmax_instances: 4\n")
	w.untilRunning(sha1, 4) // nobody has said how many: all
	must(t, w.conn.Put(w.ctx(), paasta.DesiredSizePath(cluster, paasta.InstanceID{Service: "web", Instance: "main"}), []byte("3")))
	if got := w.untilRunning(sha1, 3); got != app {
		t.Errorf("scaling made another app: %s", got)
	}
	must(t, w.conn.Put(w.ctx(), paasta.DesiredSizePath(cluster, paasta.InstanceID{Service: "web", Instance: "main"}), []byte("9")))
	w.untilRunning(sha1, 4)
}

func TestConfigChangeBounces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	first := w.untilRunning(sha1, 3)
	w.instance("instances: 3\nenv:\n  COLOUR: blue\n")
	w.until("bounce", func() string {
		if apps := w.marathon.Apps(); len(apps) != 1 || apps[0] == first {
			return fmt.Sprint(apps)
		}
		return ""
	})
	w.untilRunning(sha1, 3)
	// A typo changes nothing that runs.
	w.instance("instances: 3\ncpus_: 3\nbounce_method: crosover\n")
	w.until("say what is broken", func() string {
		if s := w.status("web", "main"); s.State != "steady" || !strings.Contains(s.Why, "marathon-"+cluster+".yaml:") {
			return fmt.Sprintf("%s %s", s.State, s.Why)
		}
		return ""
	})
	w.untilRunning(sha1, 3)
}

// While git is down, what the tags said last stands, also for a new deployd.
func TestGitDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	stop := w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.git(errors.New("git server does not answer"))
	stop()
	w.start()
	w.instance("instances: 4\n")
	w.untilRunning(sha1, 4)
	w.untilState("steady")
	w.tag(cluster+".main", paasta.TagDeploy, sha2)
	w.git(nil)
	w.kick("web")
	w.untilRunning(sha2, 4)
}

// A new leader of Marathon has no results yet: nobody loses its place for that.
func TestUnknownRemovesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.untilState("steady")
	w.marathon.ForgetResults()
	w.marathon.Down(true)
	w.kick("web")
	w.until("unknown", func() string {
		return map[bool]string{false: "Marathon is down and nobody says so"}[w.status("web", "main").State == "unknown"]
	})
	w.marathon.Down(false)
	calls := w.marathon.Calls("GET /v2/apps")
	w.kick("web")
	w.until("rounds", func() string {
		if w.marathon.Calls("GET /v2/apps") < calls+3 {
			return "too few"
		}
		return ""
	})
	if n := w.serving(); n != 3 {
		t.Errorf("%d of 3 entries are left", n)
	}
}

// One failing task goes at once; most of a service waits for a second read.
func TestRemovalGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.untilState("steady")
	tasks := w.marathon.Tasks("")
	w.marathon.Healthy(tasks[0].ID, false)
	w.until("removed", func() string {
		if n := w.serving(); n != 2 {
			return fmt.Sprintf("%d entries", n)
		}
		return ""
	})
	w.marathon.Healthy(tasks[0].ID, true)
	w.untilState("steady")
	// All are failing: nothing goes before it was seen twice.
	time.Sleep(1100 * time.Millisecond) // beyond HoldEntries: the first removal does not count any more
	began := time.Now()
	for _, task := range tasks {
		w.marathon.Healthy(task.ID, false)
	}
	w.until("held", func() string {
		if s := w.status("web", "main"); !strings.Contains(s.Why, "nobody planned that") {
			return s.Why
		}
		return ""
	})
	w.until("removed", func() string {
		if n := w.serving(); n != 0 {
			return fmt.Sprintf("%d entries", n)
		}
		return ""
	})
	if held := time.Since(began); held < 900*time.Millisecond {
		t.Errorf("all entries went after %s", held)
	}
}

// An instance that its file does not have any more is drained and deleted; apps
// of others are never touched.
func TestRemovedInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("host1", hosts...)
	w.marathon.Auto(true)
	main := "main:\n  cpus: 0.1\n  mem: 64\n  instances: 2\n"
	w.soa("web", "marathon-"+cluster+".yaml", main+"other:\n  cpus: 0.1\n  mem: 64\n  registrations: [web.main]\n  deploy_group: "+cluster+".main\n")
	w.start()
	w.deploy(sha1)
	w.until("two apps", func() string {
		if n := len(w.entries()); n != 3 {
			return fmt.Sprintf("%d entries; other: %+v", n, w.status("web", "other"))
		}
		return ""
	})
	w.soa("web", "marathon-"+cluster+".yaml", main)
	w.untilRunning(sha1, 2)
}

// When all is gone at once, an operator has a word.
func TestMassDisappearance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.soa("web", "marathon-"+cluster+".yaml", "")
	w.until("held", func() string {
		text := w.get("/healthz")
		if !strings.Contains(text, "gone from soa-configs") {
			return text
		}
		return ""
	})
	if n := w.serving(); n != 3 {
		t.Errorf("%d of 3 entries are left", n)
	}
	must(t, w.conn.Create(w.ctx(), paasta.ConfirmPath(cluster, "web"), nil))
	w.until("removed", func() string {
		if n := len(w.marathon.Apps()) + len(w.entries()); n != 0 {
			return fmt.Sprintf("%d apps and entries", n)
		}
		return ""
	})
}

// A task that is killed because its drain took too long did not drain, and what
// is logged says so, and what it still had.
func TestDrainTimeoutIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Deployd.DrainTimeout = time.Second
	w.instance("instances: 1\n")
	own := w.agent("host1", hosts...)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	app := w.untilRunning(sha1, 1)
	own.change(func() { own.connections[w.marathon.Tasks(app)[0].Port] = 2 })
	w.deploy(sha2)
	w.untilRunning(sha2, 1)
	s := w.untilState("steady")
	var kills []string
	for _, step := range s.Steps {
		if step.Op == "kill" {
			kills = append(kills, step.Why)
		}
	}
	if want := "not drained within the drain timeout of 1s: 2 connections are left"; len(kills) != 1 || kills[0] != want {
		t.Errorf("kills: %q, want %q", kills, want)
	}
}
