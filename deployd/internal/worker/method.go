package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/deployd/internal/drain"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A drainer is an instance's drain method. All of them also set weight 0 in the
// registry; noop waits for nobody, and hacheck and http also ask their own.
type drainer struct {
	method string // "", noop, hacheck, http
	other  drain.Drainer
}

func (d drainer) external() drain.Drainer { return d.other }

func (r *round) drainer(method string, p soaconfig.DrainParams) drainer {
	switch method {
	case "hacheck":
		return drainer{method, drain.Hacheck{Port: p.HacheckPort, Delay: p.Delay, Expiration: p.Expiration}}
	case "http":
		return drainer{method, drain.HTTP{URLs: p.HTTP}}
	}
	return drainer{method: method}
}

// asked is how many tasks of an instance are asked at a time.
const asked = 16

// external asks the drain method about tasks that might be draining, and tells
// those to drain that do not although they should: they have weight 0, or were
// told by an earlier round, and did not hear it. It does so outside, since the
// answers come from the service itself.
func (r *round) external(ctx context.Context) error {
	d := r.drain.external()
	// Who drains matters only when something might have to go.
	if d == nil || len(r.state.Apps) == 1 && r.state.Apps[0].ID == r.state.App &&
		r.state.Apps[0].Size <= r.state.Size && !r.anyDrains() {
		return nil
	}
	var tasks []*bounce.Task
	for a := range r.state.Apps {
		for n := range r.state.Apps[a].Tasks {
			if task := &r.state.Apps[a].Tasks[n]; task.Health != bounce.NotRunning && !task.Killing {
				tasks = append(tasks, task)
			}
		}
	}
	answers := make([]drainAnswer, len(tasks))
	r.each(len(tasks), func(n int) {
		id := tasks[n].ID
		target := r.drainTarget(id)
		_, told := r.note.drains[id]
		told = told || r.registered(id) && r.weight[id] == 0
		draining, safe, err := d.State(ctx, target)
		if err == nil && told && !draining {
			safe, err = false, d.Start(ctx, target)
		}
		answers[n] = drainAnswer{draining: told || draining, safe: safe, err: err}
	})
	for n, task := range tasks {
		r.outside(task, answers[n])
	}
	return nil
}

// A drainAnswer is what a drain method knows of a task. Who was told to drain
// counts as draining, whatever came of it: its drain timeout runs.
type drainAnswer struct {
	draining, safe bool
	err            error
}

// each calls f for 0 to n-1, some at a time, without holding up other instances.
func (r *round) each(n int, f func(n int)) {
	r.o.Outside(func() {
		var wg sync.WaitGroup
		defer wg.Wait()
		slots := make(chan struct{}, asked)
		for n := range n {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				f(n)
			})
		}
	})
}

// outside puts one answer into the state.
func (r *round) outside(task *bounce.Task, answer drainAnswer) {
	task.Draining = answer.draining
	task.Safe = false
	if !task.Draining {
		if answer.err != nil {
			r.why[task.ID] = answer.err.Error()
		}
		return
	}
	left := r.drainTimeout() - r.now.Sub(r.drainNote(task.ID).began)
	switch {
	case left <= 0:
		r.why[task.ID] = fmt.Sprintf("drained for %s, which is as long as it may", r.drainTimeout())
		task.Safe = true
		return
	case answer.err != nil:
		r.why[task.ID] = "drain method " + r.drain.method + ": " + answer.err.Error()
	case answer.safe && r.registered(task.ID) && r.weight[task.ID] == 0:
		for _, a := range r.apps {
			for _, t := range a.Tasks {
				if t.ID == task.ID {
					task.Safe = r.drained(t)
				}
			}
		}
	case answer.safe:
		task.Safe = true
	default:
		r.why[task.ID] = "drain method " + r.drain.method + " says that it is not safe to kill yet"
	}
	r.soon(min(left, time.Second))
}

func (r *round) anyDrains() bool {
	for id := range r.weight {
		if r.weight[id] == 0 {
			return true
		}
	}
	return len(r.note.drains) > 0
}

func (r *round) registered(task string) bool { _, ok := r.weight[task]; return ok }

// drainTarget is what a drain method is told of a task.
func (r *round) drainTarget(task string) drain.Target {
	target := drain.Target{Service: r.job.ID.Service, Instance: r.job.ID.Instance}
	if i := r.job.Instance; i != nil {
		target.Registrations = i.Registrations
	}
	for _, a := range r.apps {
		for _, t := range a.Tasks {
			if t.ID == task {
				target.Host = r.host(t)
				if len(t.Ports) > 0 {
					target.Port = t.Ports[0]
				}
			}
		}
	}
	return target
}

// startDrains tells the drain method of tasks that are to take no more traffic.
// Whom it cannot tell now, the next rounds tell again.
func (r *round) startDrains(ctx context.Context, steps []bounce.Step) {
	d := r.drain.external()
	if d == nil {
		return
	}
	r.tell(ctx, steps, d.Start)
	for _, s := range steps {
		r.drainNote(s.Task)
	}
}

// stopDrains tells it of tasks that are to take traffic again, and returns the
// steps that change something. Who did not hear it says that it still drains,
// and so the next round tells it again.
func (r *round) stopDrains(ctx context.Context, steps []bounce.Step) []bounce.Step {
	for _, s := range steps {
		delete(r.note.drains, s.Task)
	}
	d := r.drain.external()
	if d == nil {
		return steps
	}
	deaf := r.tell(ctx, steps, d.Stop)
	return slices.DeleteFunc(steps, func(s bounce.Step) bool { return deaf[s.Task] && r.weight[s.Task] > 0 })
}

// tell calls the drain method for the tasks of steps and returns those that did
// not hear it. They hold up no other: each says why.
func (r *round) tell(ctx context.Context, steps []bounce.Step, call func(context.Context, drain.Target) error) (deaf map[string]bool) {
	if len(steps) == 0 {
		return nil
	}
	errs := make([]error, len(steps))
	r.each(len(steps), func(n int) { errs[n] = call(ctx, r.drainTarget(steps[n].Task)) })
	deaf = map[string]bool{}
	for n, err := range errs {
		if err != nil {
			deaf[steps[n].Task] = true
			r.why[steps[n].Task] = "drain method " + r.drain.method + ": " + err.Error()
		}
	}
	r.soon(time.Second)
	return deaf
}
