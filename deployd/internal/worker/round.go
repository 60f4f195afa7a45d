package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/deployd/internal/register"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A round is what one Round has read and decided.
type round struct {
	*Worker
	job   Job
	note  *note
	now   time.Time
	again time.Duration // look again at the latest then; 0 for no wish

	apps    []marathon.App
	current map[string]soaconfig.Namespace // registrations to be in
	vague   map[string]bool                // those whose namespace could not be read
	sets    map[string]registry.Set
	weight  map[string]int // task → heaviest entry; missing when it has none

	def   marathon.Definition
	stale bool
	form  marathon.AppDefinitions
	state bounce.State
	want  map[string]register.Want
	why   map[string]string // task → what it waits for
	held  string            // what the guard holds back
	drain drainMethod
	heard map[string]drainAnswer // by task, what its drain method said
}

// Round makes one round for an instance and returns when to look at it again,
// 0 for no wish of its own.
func (w *Worker) Round(ctx context.Context, job Job) (time.Duration, error) {
	r := &round{
		Worker: w, job: job, note: w.noteOf(job.ID), now: time.Now(),
		current: map[string]soaconfig.Namespace{}, vague: map[string]bool{}, sets: map[string]registry.Set{},
		weight: map[string]int{}, want: map[string]register.Want{}, why: map[string]string{},
	}
	err := r.run(ctx)
	if err != nil && ctx.Err() == nil {
		r.note.update(func(s *paasta.BounceStatus) {
			s.State, s.Why = stateAfter(err), err.Error()
		})
	}
	return r.again, err
}

// stateAfter names the state of an instance whose round ended with an error.
// Only what Marathon will not have is a bounce that failed, for which pipelines
// roll back; that a server does not answer says nothing of the bounce.
func stateAfter(err error) string {
	var answer *marathon.StatusError
	switch {
	case errors.Is(err, marathon.ErrLocked):
		return "waiting"
	case errors.As(err, &answer) && (answer.Code == http.StatusBadRequest || answer.Code == http.StatusUnprocessableEntity):
		return "failed"
	}
	return "unknown"
}

func (r *round) run(ctx context.Context) error {
	if err := r.read(ctx); err != nil {
		return err
	}
	size, planned, err := r.target(ctx)
	if err != nil {
		return err
	}
	r.askDrains(ctx)
	r.observe(planned, size)
	decision := bounce.Decision{Waits: "nothing is planned"}
	if planned {
		r.state.Now = r.now
		decision = bounce.Plan(r.state)
	}
	for _, task := range decision.Killed {
		r.note.killed[task] = r.now
	}
	if err := r.carryOut(ctx, decision.Steps); err != nil {
		return err
	}
	r.report(decision, planned, size)
	return nil
}

// soon asks for another round within d.
func (r *round) soon(d time.Duration) {
	if r.again == 0 || d < r.again {
		r.again = max(d, time.Millisecond)
	}
}

// read reads the instance's apps, and every registration in which it is or
// might be.
func (r *round) read(ctx context.Context) error {
	apps, err := r.o.Marathon.AppsOf(ctx, r.job.ID)
	if err != nil {
		return err
	}
	for _, a := range apps {
		switch cluster := a.Labels[marathon.LabelCluster]; {
		case cluster == r.o.Config.Cluster:
		case cluster == "" && r.job.Instance != nil:
			// Made by the original PaaSTA: its id says that it is this instance.
		default:
			continue // another cluster's, or nobody says whose
		}
		r.apps = append(r.apps, a)
	}
	if r.job.Instance != nil {
		for _, name := range r.job.Instance.Registrations {
			ns, found, unknown := r.job.Namespace(name)
			switch {
			case unknown:
				r.vague[name] = true
			case found && ns.Registered:
				r.current[name] = ns
			}
		}
	}
	names := r.o.Known.Where(r.job.ID)
	if r.job.unknown() {
		// What it should be is not known: it stays where it is.
		for _, name := range names {
			r.vague[name] = true
		}
	}
	for name := range r.current {
		names = append(names, name)
	}
	for name := range r.vague {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		set, err := r.o.Registry.List(ctx, name)
		if err != nil {
			return err
		}
		r.sets[name] = set
		r.o.Known.Saw(name, set.Nodes)
		for _, n := range register.Owned(set.Nodes, r.o.Config.Cluster, r.job.ID) {
			task := n.Labels[registry.LabelTaskID]
			r.weight[task] = max(r.weight[task], n.Weight)
		}
	}
	return nil
}

// target says what should run: its definition goes to r.def and r.state. It
// returns false when nothing may be planned, and its reason is in the status.
func (r *round) target(ctx context.Context) (size int, planned bool, err error) {
	r.state = bounce.State{Method: bounce.Crossover, Margin: 1}
	i := r.job.Instance
	if i == nil {
		r.drain = methodOf("", soaconfig.DrainParams{})
		return 0, !r.job.unknown(), nil
	}
	r.drain = methodOf(i.DrainMethod, i.DrainParams)
	fail := func(state string, err error) (int, bool, error) {
		r.note.update(func(s *paasta.BounceStatus) { s.State, s.Why, s.Method = state, err.Error(), i.BounceMethod })
		return 0, false, nil
	}
	switch {
	case r.job.unknown() && r.job.Stopped && len(r.apps) > 0:
		r.state.App = newest(r.apps).ID
		return 0, true, nil
	case r.job.unknown():
		return fail("failed", r.job.Problem)
	case r.job.DeployedErr != nil:
		return fail("waiting", r.job.DeployedErr)
	}
	method, err := bounce.MethodNamed(i.BounceMethod)
	if err != nil {
		return fail("failed", err)
	}
	if size, err = r.size(ctx); err != nil {
		return 0, false, err
	}
	in := marathon.AppInput{
		Instance: *i, Deployment: r.job.Deployed, Registry: r.job.Service.DockerRegistry,
		Team: teamOf(*i, r.apps), Size: size, System: r.o.Config,
	}
	if len(i.Registrations) > 0 {
		ns, found, unknown := r.job.Namespace(i.Registrations[0])
		if unknown {
			return fail("failed", fmt.Errorf("%s: its namespace in smartstack.yaml cannot be read, see paasta validate", i.Registrations[0]))
		}
		if found {
			in.Namespace = &ns
		}
	}
	form, err := marathon.BuildApp(in)
	if err != nil {
		return fail("failed", err)
	}
	r.form = form
	r.def, r.stale = form.Choose(r.apps, false)
	// A stale app is replaced in its turn, and only when nothing else is going on.
	if r.stale && len(r.apps) == 1 {
		if wait := r.o.MayRefresh(r.job.ID); wait > 0 {
			r.soon(wait)
		} else {
			r.def, _ = form.Choose(r.apps, true)
		}
	}
	r.state = bounce.State{Method: method, Margin: i.BounceMarginFactor, App: r.def.ID, Size: size}
	return size, true, nil
}

// teamOf returns the monitoring team of an instance: while that cannot be read,
// the one of its newest app, so that a mistake in monitoring.yaml changes no app.
func teamOf(i soaconfig.Instance, apps []marathon.App) string {
	if !i.Monitoring.TeamUnknown || len(apps) == 0 {
		return i.MonitoringTeam
	}
	return newest(apps).Team
}

func newest(apps []marathon.App) marathon.App {
	return slices.MaxFunc(apps, func(a, b marathon.App) int { return a.Created.Compare(b.Created) })
}

// size returns how many tasks the instance should have.
func (r *round) size(ctx context.Context) (int, error) {
	i := r.job.Instance
	switch {
	case r.job.Stopped:
		return 0, nil
	case i.MaxInstances == nil:
		return i.Size, nil
	}
	n, found, err := r.o.Size(ctx, r.job.ID)
	if err != nil {
		return 0, fmt.Errorf("read the desired size of %s: %w", r.job.ID, err)
	}
	if !found {
		// Too many tasks cost money, too few cost requests.
		return *i.MaxInstances, nil
	}
	return max(min(n, *i.MaxInstances), i.MinInstances), nil
}

// observe turns what was read into the State that is planned with.
func (r *round) observe(planned bool, size int) {
	judge := r.judge(planned, size)
	listed := map[string]bool{}
	for _, a := range r.apps {
		app := bounce.App{ID: a.ID, Size: a.Size, Created: a.Created}
		for _, t := range a.Tasks {
			listed[t.ID] = true
			task := bounce.Task{
				ID: t.ID, Started: t.StartedAt, Unreachable: t.State == "TASK_UNREACHABLE",
				AtRisk: r.o.AtRisk(t.Host),
			}
			task.Killing, task.Killed = r.killing(t)
			if r.weight[t.ID] == 0 {
				delete(r.note.served, t.ID)
			} else if r.note.served[t.ID].IsZero() {
				r.note.served[t.ID] = r.now
			}
			task.Health = judge(a, t)
			task.Draining, task.Safe, task.SafeWhy = r.draining(t, task.Killing)
			app.Tasks = append(app.Tasks, task)
			r.want[t.ID] = r.wanted(a, t)
		}
		r.state.Apps = append(r.state.Apps, app)
	}
	for _, set := range r.sets {
		for _, n := range register.Owned(set.Nodes, r.o.Config.Cluster, r.job.ID) {
			task := n.Labels[registry.LabelTaskID]
			if listed[task] || n.Weight == 0 {
				continue
			}
			owner, err := register.Owner(task)
			if err != nil {
				continue // Owned has read it
			}
			for i := range r.state.Apps {
				if r.state.Apps[i].ID == owner.String() {
					r.state.Apps[i].Ghosts++
				}
			}
		}
	}
	// What is gone is not remembered.
	for task := range r.note.drains {
		w, ok := r.weight[task]
		if outside := r.drain.own != nil && listed[task]; !outside && (!ok || w > 0) {
			delete(r.note.drains, task)
		}
	}
	gone := func(task string) bool { return !listed[task] }
	maps.DeleteFunc(r.note.killed, func(task string, _ time.Time) bool { return gone(task) })
	maps.DeleteFunc(r.note.served, func(task string, _ time.Time) bool { return gone(task) })
	maps.DeleteFunc(r.note.happy, func(task string, _ bool) bool { return gone(task) })
}

// killing tells whether a task was killed, and when, if Marathon has not begun
// with it.
func (r *round) killing(t marathon.Task) (bool, time.Time) {
	if t.State == "TASK_KILLING" {
		return true, time.Time{}
	}
	at, killed := r.note.killed[t.ID]
	return killed, at
}

// wanted says what the registry should have for a task as long as no step says
// otherwise.
func (r *round) wanted(a marathon.App, t marathon.Task) register.Want {
	w, registered := r.weight[t.ID]
	switch {
	case terminal(t.State) || t.Failing:
		if registered && w == 0 {
			return register.Gone
		}
		return register.Lost
	case registered && w == 0:
		return register.Drain
	case healthy(a, t, r.minUptime(), r.now):
		return register.Serve
	}
	return register.Keep
}

func (r *round) minUptime() time.Duration {
	if r.job.Instance == nil {
		return 0
	}
	return r.job.Instance.BounceHealth.MinTaskUptime
}

// terminal tells states from which a task does not come back.
func terminal(state string) bool {
	switch state {
	case "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_DROPPED":
		return true
	}
	return false
}

// healthy: it runs, and every check that its app defines passes; without
// checks, it has run for min_task_uptime.
func healthy(a marathon.App, t marathon.Task, uptime time.Duration, now time.Time) bool {
	switch {
	case !t.Running() || t.StartedAt.IsZero() || len(t.Ports) == 0 && a.HealthChecks > 0:
		return false
	case a.HealthChecks > 0:
		return t.Results >= a.HealthChecks && t.Alive == t.Results
	}
	return young(t, uptime, now) == 0
}

// young returns how long it is until a task has run for uptime. Its host's clock
// may be ahead of ours: the task has run for no time then, not for less.
func young(t marathon.Task, uptime time.Duration, now time.Time) time.Duration {
	return max(0, uptime-max(0, now.Sub(t.StartedAt)))
}

// report writes the status.
func (r *round) report(d bounce.Decision, planned bool, size int) {
	tasks := r.tasks()
	r.note.update(func(s *paasta.BounceStatus) {
		s.Tasks, s.Stale = tasks, r.stale
		if !planned {
			return // target has said why
		}
		s.Method, s.App, s.Why = string(r.state.Method), r.state.App, ""
		why := d.Waits
		if sick := r.unhealthy(); sick != "" {
			why = strings.TrimPrefix(why+"; "+sick, "; ")
		}
		if r.held != "" {
			why = strings.TrimPrefix(why+"; "+r.held, "; ")
		}
		switch {
		case d.Done && r.job.Instance == nil:
			s.State = "stopped"
		case d.Done && size == 0:
			s.State = "stopped"
		case d.Done:
			s.State = "steady"
		case len(r.apps) > 1 || len(d.Steps) > 0:
			s.State, s.Why = "bouncing", why
		default:
			s.State, s.Why = "waiting", why
		}
		if d.Done && r.held != "" {
			s.Why = r.held
		}
		if r.job.Problem != nil {
			s.Why = strings.TrimPrefix(s.Why+"; its config is broken, what was valid before stands: "+r.job.Problem.Error(), "; ")
		}
	})
	if d.Done && planned {
		if r.note.finished != r.state.App && r.state.App != "" {
			r.o.Say(r.job.ID, "event", fmt.Sprintf("%s bounce on %s finishing. Now running %s", r.state.Method, r.job.ID, r.state.App))
		}
		r.note.finished = r.state.App
	} else if planned {
		r.soon(5 * time.Second) // events come sooner; this is for the one that was lost
	}
}

func (r *round) tasks() []paasta.BounceTask {
	var out []paasta.BounceTask
	for n, a := range r.apps {
		for m, t := range a.Tasks {
			port := 0
			if len(t.Ports) > 0 {
				port = t.Ports[0]
			}
			task := paasta.BounceTask{ID: t.ID, App: a.ID, Host: t.Host, Port: port, Why: r.why[t.ID]}
			switch s := r.state.Apps[n].Tasks[m]; {
			case s.Killing:
				task.State = "killed"
			case s.Draining:
				task.State = "draining"
			case s.Health == bounce.Happy:
				task.State = "happy"
			case s.Health == bounce.Healthy:
				task.State = "healthy"
			case !t.Running():
				task.State = "staging"
			case t.Failing:
				task.State = "unhealthy"
			default:
				task.State = "running"
			}
			out = append(out, task)
		}
	}
	return out
}
