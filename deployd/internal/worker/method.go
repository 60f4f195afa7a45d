package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/deployd/internal/drain"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A drainMethod is how an instance's tasks drain. All methods also set weight 0
// in the registry; noop waits for nobody.
type drainMethod struct {
	name string        // "", noop, hacheck, http
	own  drain.Drainer // what hacheck and http ask besides; nil for the others
}

func methodOf(name string, p soaconfig.DrainParams) drainMethod {
	switch name {
	case "hacheck":
		return drainMethod{name, drain.Hacheck{Port: p.HacheckPort, Delay: p.Delay, Expiration: p.Expiration}}
	case "http":
		return drainMethod{name, drain.HTTP{URLs: p.HTTP}}
	}
	return drainMethod{name: name}
}

// asked is how many tasks of an instance are asked at a time.
const asked = 16

// A drainAnswer is what a drain method knows of a task. Who was told to drain
// counts as draining, whatever came of it: its drain timeout runs.
type drainAnswer struct {
	draining, safe bool
	err            error
}

// askDrains asks the drain method about tasks that might be draining, and tells
// those to drain that do not although they should: they have weight 0, or were
// told by an earlier round, and did not hear it. It does so outside, since the
// answers come from the service itself.
func (r *round) askDrains(ctx context.Context) {
	// Who drains matters only when something might have to go.
	if r.drain.own == nil || len(r.apps) == 1 && r.apps[0].ID == r.state.App && r.apps[0].Size <= r.state.Size && !r.anyDrains() {
		return
	}
	var tasks []string
	for _, a := range r.apps {
		for _, t := range a.Tasks {
			if killing, _ := r.killing(t); t.Running() && !killing {
				tasks = append(tasks, t.ID)
			}
		}
	}
	answers := make([]drainAnswer, len(tasks))
	r.each(len(tasks), func(n int) {
		target := r.drainTarget(tasks[n])
		told := r.note.drains[tasks[n]] != nil || r.weightless(tasks[n])
		draining, safe, err := r.drain.own.State(ctx, target)
		if err == nil && told && !draining {
			safe, err = false, r.drain.own.Start(ctx, target)
		}
		answers[n] = drainAnswer{draining: told || draining, safe: safe, err: err}
	})
	r.heard = map[string]drainAnswer{}
	for n, task := range tasks {
		r.heard[task] = answers[n]
	}
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

func (r *round) anyDrains() bool {
	for id := range r.weight {
		if r.weight[id] == 0 {
			return true
		}
	}
	return len(r.note.drains) > 0
}

// weightless tells whether a task is registered, with weight 0.
func (r *round) weightless(task string) bool {
	weight, registered := r.weight[task]
	return registered && weight == 0
}

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
	if r.drain.own == nil {
		return
	}
	r.tell(ctx, steps, r.drain.own.Start)
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
	if r.drain.own == nil {
		return steps
	}
	deaf := r.tell(ctx, steps, r.drain.own.Stop)
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
			r.why[steps[n].Task] = "drain method " + r.drain.name + ": " + err.Error()
		}
	}
	r.soon(time.Second)
	return deaf
}
