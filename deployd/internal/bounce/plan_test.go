package bounce

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// app makes an app whose tasks are named after it: h happy, y healthy, u
// unhealthy, s staging, d draining, D drained, k being killed, K killed at the epoch and still there, r
// happy at risk, R staging at risk.
func app(id string, size int, tasks string) App {
	a := App{ID: id, Size: size, Created: epoch}
	for n, kind := range tasks {
		t := Task{ID: fmt.Sprintf("%s.%d", id, n+1), Started: epoch.Add(time.Duration(n) * time.Second)}
		switch kind {
		case 'h':
			t.Health = Happy
		case 'y':
			t.Health = Healthy
		case 'u':
			t.Health = Unhealthy
		case 's':
			t.Safe = true
		case 'd':
			t.Health, t.Draining = Happy, true
		case 'D':
			t.Health, t.Draining, t.Safe = Happy, true, true
		case 'k':
			t.Health, t.Draining, t.Killing = Happy, true, true
		case 'K':
			t.Health, t.Draining, t.Safe, t.Killing, t.Killed = Happy, true, true, true, epoch
		case 'r':
			t.Health, t.AtRisk = Happy, true
		case 'R':
			t.Safe, t.AtRisk = true, true
		}
		a.Tasks = append(a.Tasks, t)
	}
	return a
}

func TestPlan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method Method // default crossover
		margin float64
		app    string // default new
		size   int
		apps   []App
		want   []string
		waits  string
		done   bool
	}{
		{
			name: "a first deploy creates the app", size: 2,
			want: []string{"create new (2 tasks): not in Marathon yet"},
		},
		{
			name: "a new app waits for its tasks", size: 2, apps: []App{app("new", 2, "hs")},
			waits: "1 of 2 tasks are happy",
		},
		{
			name: "a finished bounce has nothing to do", size: 2, apps: []App{app("new", 2, "hh")},
			done: true,
		},
		{
			name: "a stopped instance has an app of size 0", size: 0, apps: []App{app("new", 0, "")},
			done: true,
		},
		{
			name: "crossover starts the new app and keeps every old task", size: 2, apps: []App{app("old", 2, "hh")},
			want:  []string{"create new (2 tasks): not in Marathon yet"},
			waits: "",
		},
		{
			name: "crossover drains one old task for each happy new one", size: 2,
			apps:  []App{app("new", 2, "hs"), app("old", 2, "hh")},
			want:  []string{"drain old.2: 1 of 2 new tasks are happy"},
			waits: "1 of 2 new tasks are happy, so 1 old task stays",
		},
		{
			name: "healthy is not happy", size: 2,
			apps:  []App{app("new", 2, "yy"), app("old", 2, "hh")},
			waits: "0 of 2 new tasks are happy, so 2 old tasks stay",
		},
		{
			name: "crossover with a margin lets go of some old tasks at once", size: 4, margin: 0.5,
			apps: []App{app("new", 4, "ssss"), app("old", 4, "hhhh")},
			want: []string{
				"drain old.3: 0 of 4 new tasks are happy",
				"drain old.4: 0 of 4 new tasks are happy",
			},
			waits: "0 of 4 new tasks are happy, so 2 old tasks stay",
		},
		{
			name: "of several old apps the happiest tasks stay", size: 2,
			apps: []App{app("new", 2, "ss"), app("old1", 2, "uh"), app("old2", 2, "hu")},
			want: []string{
				"drain old1.1: 0 of 2 new tasks are happy",
				"drain old2.2: 0 of 2 new tasks are happy",
			},
			waits: "0 of 2 new tasks are happy, so 2 old tasks stay",
		},
		{
			name: "a drained task is killed, a draining one is waited for", size: 2,
			apps:  []App{app("new", 2, "hh"), app("old", 2, "dD")},
			want:  []string{"kill old.2: drained"},
			waits: "old.1 drains",
		},
		{
			name: "a task that is being killed is not killed again", size: 1,
			apps:  []App{app("new", 1, "h"), app("old", 0, "k")},
			waits: "1 old task to go",
		},
		{
			name: "a kill that an earlier deployd began is not made twice", size: 2,
			apps:  []App{app("new", 2, "hh"), app("old", 1, "DD")},
			want:  []string{"kill old.2: drained"},
			waits: "",
		},
		{
			name: "a task that is being killed takes no traffic again", size: 1, apps: []App{app("new", 1, "hD")},
			waits: "2 tasks run, 1 asked for",
		},
		{
			name: "an old task that never took traffic is killed without draining", size: 1,
			apps: []App{app("new", 1, "h"), app("old", 1, "s")},
			want: []string{"kill old.1: 1 of 1 new tasks are happy"},
		},
		{
			name: "an empty old app is deleted", size: 1,
			apps: []App{app("new", 1, "h"), app("old", 0, "")},
			want: []string{"delete old: no tasks left"},
		},
		{
			name: "an old app that is still registered is not touched", size: 1,
			apps:  []App{app("new", 1, "h"), {ID: "old", Size: 1, Ghosts: 1}},
			waits: "old: the registry lists 1 task more than Marathon",
		},
		{
			name: "an old app starts no more tasks", size: 1,
			apps:  []App{app("new", 1, "s"), app("old", 3, "u")},
			want:  []string{"scale old (1 task): an old app starts no more tasks, and 2 of its 3 places are empty"},
			waits: "0 of 1 new tasks are happy, so 1 old task stays",
		},
		{
			name: "an old app that serves replaces what crashes while it is needed", size: 3,
			apps:  []App{app("new", 3, "sss"), app("old", 3, "hh")},
			waits: "0 of 3 new tasks are happy, so 2 old tasks stay",
		},
		{
			name: "upthendown waits for all", method: UpThenDown, size: 2,
			apps:  []App{app("new", 2, "hs"), app("old", 2, "hh")},
			waits: "1 of 2 new tasks are happy, so 2 old tasks stay",
		},
		{
			name: "upthendown is content with more than enough", method: UpThenDown, size: 1,
			apps: []App{app("new", 2, "rh"), app("old", 1, "h")},
			want: []string{"drain new.1: its host goes for maintenance", "drain old.1: 1 of 1 new tasks are happy"},
		},
		{
			name: "downthenup drains first", method: DownThenUp, size: 1, apps: []App{app("old", 1, "h")},
			want:  []string{"drain old.1: downthenup: old tasks go before new ones come"},
			waits: "1 old task to go before the new app is created",
		},
		{
			name: "downthenup waits for what still drains", method: DownThenUp, size: 1, apps: []App{app("old", 1, "d")},
			waits: "1 old task to go before the new app is created; old.1 drains",
		},
		{
			name: "downthenup then creates", method: DownThenUp, size: 1, apps: []App{app("old", 0, "")},
			want: []string{"create new (1 task): not in Marathon yet", "delete old: no tasks left"},
		},
		{
			name: "brutal drains at once", method: Brutal, size: 1, apps: []App{app("old", 1, "h")},
			want: []string{"create new (1 task): not in Marathon yet", "drain old.1: brutal: all old tasks go at once"},
		},
		{
			name: "scaling up is one step", size: 3, apps: []App{app("new", 1, "h")},
			want: []string{"scale new (3 tasks): 1 of 3 tasks are asked for"},
		},
		{
			name: "scaling down drains the youngest of equals", size: 1, apps: []App{app("new", 3, "huh")},
			want: []string{
				"drain new.2: 3 tasks run, 1 asked for",
				"drain new.3: 3 tasks run, 1 asked for",
			},
		},
		{
			name: "scaling down goes on with what drains", size: 1, apps: []App{app("new", 3, "dhd")},
			waits: "new.3 drains; new.1 drains",
		},
		{
			name: "a task that drained and is wanted again takes traffic", size: 2, apps: []App{app("new", 2, "hd")},
			want: []string{"undrain new.2: its app is the one that should run"},
		},
		{
			name: "what drained and is wanted again must be happy before others go", size: 2,
			apps: []App{app("new", 2, "dd"), app("old", 2, "hh")},
			want: []string{
				"undrain new.2: its app is the one that should run",
				"undrain new.1: its app is the one that should run",
			},
			waits: "0 of 2 new tasks are happy, so 2 old tasks stay",
		},
		{
			name: "a task at risk is replaced first", size: 2, apps: []App{app("new", 2, "hr")},
			want: []string{"scale new (3 tasks): 2 of 2 tasks are asked for, and 1 are on hosts that go for maintenance"},
		},
		{
			name: "and leaves when the replacement is happy", size: 2, apps: []App{app("new", 3, "hrh")},
			want: []string{"drain new.2: its host goes for maintenance"},
		},
		{
			name: "a replacement that starts on another host at risk is left alone", size: 1,
			apps: []App{app("new", 2, "rR")}, waits: "2 tasks stay on hosts that go for maintenance until others are happy elsewhere",
		},
		{
			name: "a removed instance drains everything", app: "-", apps: []App{app("old", 2, "hs")},
			want: []string{
				"drain old.1: the instance is not configured any more",
				"kill old.2: the instance is not configured any more",
			},
		},
		{
			name: "and then nothing is left", app: "-", apps: []App{app("old", 0, "")},
			want: []string{"delete old: no tasks left"},
		},
		{name: "and it is done", app: "-", done: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := State{Method: tt.method, Margin: tt.margin, App: tt.app, Size: tt.size, Apps: tt.apps}
			if s.Method == "" {
				s.Method = Crossover
			}
			if s.Margin == 0 {
				s.Margin = 1
			}
			switch s.App {
			case "":
				s.App = "new"
			case "-":
				s.App = ""
			}
			d := Plan(s)
			var got []string
			for _, step := range d.Steps {
				got = append(got, step.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if d.Done != tt.done {
				t.Errorf("done = %v, want %v (waits: %s)", d.Done, tt.done, d.Waits)
			}
			if (tt.waits != "" || len(d.Steps) == 0) && d.Waits != tt.waits {
				t.Errorf("waits = %q, want %q", d.Waits, tt.waits)
			}
		})
	}
}

// A kill that did nothing is made again after a minute, and that kill does not
// lower the app's size a second time, whoever made the first.
func TestALostKillIsMadeAgain(t *testing.T) {
	t.Parallel()
	again := []Step{{
		Op: Kill, App: "old", Task: "old.1", Again: true, Why: "it still runs, 1m0s after it was killed",
	}}
	tests := []struct {
		name   string
		app    App
		age    time.Duration // of the kill
		change func(*Task)
		want   Decision
	}{
		{
			name: "it is waited for", app: app("old", 0, "K"), age: time.Minute - time.Second,
			want: Decision{Waits: "1 old task to go"},
		},
		{name: "and then made again", app: app("old", 0, "K"), age: time.Minute, want: Decision{Steps: again}},
		{
			name: "not where Marathon has begun with it", app: app("old", 0, "k"), age: time.Hour,
			want: Decision{Waits: "1 old task to go"},
		},
		{
			name: "nor where the agent does not answer", app: app("old", 0, "K"), age: time.Hour,
			change: func(t *Task) { t.Unreachable = true }, want: Decision{Waits: "1 old task to go"},
		},
		{
			name: "a kill that an earlier deployd began is as good as made now", app: app("old", 0, "D"),
			want: Decision{Waits: "1 old task to go", Killed: []string{"old.1"}},
		},
		{
			name: "the size tells the others from those that were killed", app: app("old", 1, "KD"), age: time.Second,
			want: Decision{Steps: []Step{{Op: Kill, App: "old", Task: "old.2", Why: "drained"}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.change != nil {
				tt.change(&tt.app.Tasks[0])
			}
			got := Plan(State{
				Now: epoch.Add(tt.age), Method: Crossover, Margin: 1, App: "new", Size: 1, Apps: []App{app("new", 1, "h"), tt.app},
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
	own := Plan(State{
		Now: epoch.Add(time.Hour), Method: Crossover, Margin: 1, App: "new", Size: 1, Apps: []App{app("new", 1, "hK")},
	})
	if len(own.Steps) != 1 || own.Steps[0].Op != Kill || own.Steps[0].Task != "new.2" || !own.Steps[0].Again {
		t.Errorf("of the app that should run: %v", own.Steps)
	}
}

// Nothing keeps Marathon from placing the replacement of a task at risk on a
// host at risk: that is no reason to start and kill tasks without end.
func TestReplacementsThatAreAtRiskToo(t *testing.T) {
	t.Parallel()
	s := State{Now: epoch.Add(time.Hour), Method: Crossover, Margin: 1, App: "new", Size: 3, Apps: []App{app("new", 3, "rrr")}}
	kills := 0
	round := func(elsewhere bool) (done bool) {
		d := Plan(s)
		for _, step := range d.Steps {
			apply(&s, step)
			if step.Op == Kill {
				kills++
			}
		}
		known := map[string]bool{}
		for _, task := range s.Apps[0].Tasks {
			known[task.ID] = true
		}
		progressWorld(&s)
		for i := range s.Apps[0].Tasks {
			if task := &s.Apps[0].Tasks[i]; !known[task.ID] {
				task.ID = fmt.Sprintf("new.at%d.%d", s.Now.Unix(), i)
				task.AtRisk, task.Started = !elsewhere, s.Now
			}
		}
		s.Now = s.Now.Add(time.Second)
		if n := len(s.Apps[0].Tasks); n > 2*s.Size {
			t.Fatalf("%d tasks run, %d are asked for: %v", n, s.Size, d)
		}
		if n := happy(s); n < s.Size {
			t.Fatalf("%d of %d tasks are happy: %v", n, s.Size, d)
		}
		return d.Done
	}
	for range int(3 * landAgain / time.Second) {
		round(false)
	}
	if most := 3 * 2 * s.Size; kills == 0 || kills > most {
		t.Errorf("%d kills in %s, want some and at most %d", kills, 3*landAgain, most)
	}
	for n := 0; !round(true); n++ {
		if n > int(2*landAgain/time.Second) {
			t.Fatalf("with room elsewhere there is no end: %+v\n%+v", s, Plan(s))
		}
	}
	for _, task := range s.Apps[0].Tasks {
		if task.AtRisk {
			t.Errorf("%s stays at risk", task.ID)
		}
	}
}

func TestMethodNamed(t *testing.T) {
	t.Parallel()
	for _, m := range []Method{Brutal, UpThenDown, Crossover, DownThenUp} {
		if got, err := MethodNamed(string(m)); err != nil || got != m {
			t.Errorf("MethodNamed(%q) = %q, %v", m, got, err)
		}
	}
	if _, err := MethodNamed("crosover"); err == nil {
		t.Error("an unknown method is no error")
	}
}

// drawState draws any instance, also ones that no bounce would lead to.
func drawState(t *rapid.T) State {
	s := State{
		Now:    epoch.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "minute")) * time.Minute),
		Method: rapid.SampledFrom([]Method{Brutal, UpThenDown, Crossover, DownThenUp}).Draw(t, "method"),
		Margin: rapid.Float64Range(0.01, 1).Draw(t, "margin"),
		App:    rapid.SampledFrom([]string{"new", "new", "new", ""}).Draw(t, "app"),
		Size:   rapid.IntRange(0, 8).Draw(t, "size"),
	}
	for _, id := range []string{"new", "old1", "old2"} {
		if rapid.Bool().Draw(t, id) {
			a := app(id, rapid.IntRange(0, 8).Draw(t, id+" size"), rapid.StringMatching("[hyusdDkKrR]{0,8}").Draw(t, id+" tasks"))
			a.Ghosts = rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, id+" ghosts")
			s.Apps = append(s.Apps, a)
		}
	}
	return s
}

// Whatever the state, a bounce that keeps capacity never takes it below the
// margin (or below what there was), and never kills a task that serves. What
// takes traffic again does not count before the load balancers have it.
func TestPlanKeepsCapacity(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		tasks := map[string]Task{}
		before := 0
		for _, a := range s.Apps {
			for _, task := range a.Tasks {
				tasks[task.ID] = task
				if task.Health == Happy && !task.Draining && !task.Killing {
					before++
				}
			}
		}
		after, touched := before, map[string]Op{}
		for _, step := range Plan(s).Steps {
			if step.Why == "" {
				t.Fatalf("%v has no reason", step)
			}
			task := tasks[step.Task]
			if op, ok := touched[step.Target()]; ok && step.Task != "" {
				t.Fatalf("%s: %s and %s", step.Task, op, step.Op)
			}
			touched[step.Target()] = step.Op
			switch step.Op {
			case Drain:
				if task.Health == Happy {
					after--
				}
			case Kill:
				if step.Again != !task.Killed.IsZero() || task.Killing && !step.Again {
					t.Fatalf("%s: again %v of %+v", step, step.Again, task)
				}
				if !task.Safe {
					t.Fatalf("%s is killed and is not safe to kill", step.Task)
				}
			}
		}
		if s.App == "" {
			return
		}
		floor := min(before, needed(s.Method, s.Size, s.Margin))
		if after < floor {
			t.Fatalf("%d happy tasks left of %d, want at least %d\n%v", after, before, floor, Plan(s))
		}
	})
}

// Equal states make equal plans, in whatever order the apps come.
func TestPlanIsAFunction(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		want := Plan(s)
		s.Apps = rapid.Permutation(s.Apps).Draw(t, "apps")
		if diff := cmp.Diff(want, Plan(s)); diff != "" {
			t.Fatalf("another order, another plan:\n%s", diff)
		}
	})
}

// From any state, with tasks that come up in the end, a bounce ends with the
// app that should run at its size, nothing else, and nothing left to do; and on
// its way it never has fewer happy tasks than the margin, once it had them.
func TestPlanConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		for i := range s.Apps {
			a := &s.Apps[i]
			a.Ghosts = 0
			// With more tasks than its size, Marathon would kill some by itself.
			running := 0
			for _, t := range a.Tasks {
				if !t.Killing {
					running++
				}
			}
			a.Size = max(a.Size, running)
		}
		need := needed(s.Method, s.Size, s.Margin)
		had := happy(s)
		for round := 0; ; round++ {
			if round > 200 {
				t.Fatalf("no end after %d rounds: %+v\n%+v", round, s, Plan(s))
			}
			d := Plan(s)
			if d.Done {
				break
			}
			for _, step := range d.Steps {
				apply(&s, step)
			}
			if floor := min(need, had); s.App != "" && happy(s) < floor {
				t.Fatalf("round %d: %d happy, want %d: %+v", round, happy(s), floor, d)
			}
			had = max(happy(s), min(had, need))
			progressWorld(&s)
			s.Now = s.Now.Add(time.Minute)
		}
		if s.App == "" {
			if len(s.Apps) != 0 {
				t.Fatalf("apps stay: %+v", s.Apps)
			}
			return
		}
		if len(s.Apps) != 1 || s.Apps[0].ID != s.App || s.Apps[0].Size != s.Size || len(s.Apps[0].Tasks) != s.Size {
			t.Fatalf("want %d tasks of %s alone, got %+v", s.Size, s.App, s.Apps)
		}
	})
}

func happy(s State) int {
	n := 0
	for _, a := range s.Apps {
		for _, t := range a.Tasks {
			if t.Health == Happy && !t.Draining && !t.Killing {
				n++
			}
		}
	}
	return n
}

// apply does to the state what Marathon and the registry would.
func apply(s *State, step Step) {
	for i := range s.Apps {
		a := &s.Apps[i]
		if a.ID != step.App {
			continue
		}
		for j := range a.Tasks {
			task := &a.Tasks[j]
			if task.ID != step.Task {
				continue
			}
			switch step.Op {
			case Drain:
				task.Draining = true
			case Undrain:
				task.Draining, task.Safe = false, false
			case Kill:
				task.Killing, task.Killed = true, time.Time{}
				if !step.Again {
					a.Size = max(a.Size-1, 0)
				}
			}
		}
		if step.Op == Scale {
			a.Size = step.Size
		}
	}
	switch step.Op {
	case Create:
		s.Apps = append(s.Apps, App{ID: step.App, Size: step.Size, Created: epoch.Add(time.Hour)})
	case Delete:
		for i, a := range s.Apps {
			if a.ID == step.App {
				s.Apps = append(s.Apps[:i], s.Apps[i+1:]...)
				break
			}
		}
	}
}

// progressWorld lets some time pass: what is killed goes, what drains is
// drained, what should run starts and comes up, hosts leave for maintenance.
func progressWorld(s *State) {
	for i := range s.Apps {
		a := &s.Apps[i]
		var stay []Task
		for _, t := range a.Tasks {
			if t.Killing && t.Killed.IsZero() {
				continue
			}
			switch {
			case t.Draining:
				t.Safe = true
			case t.Health < Happy:
				t.Health++
				t.Safe = false
			}
			stay = append(stay, t)
		}
		for n := 0; len(stay) < a.Size; n++ {
			stay = append(stay, Task{ID: fmt.Sprintf("%s.more%d.%d", a.ID, len(stay), n+time.Now().Nanosecond()), Started: epoch, Safe: true})
		}
		a.Tasks = stay
	}
}
