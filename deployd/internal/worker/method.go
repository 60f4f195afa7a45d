package worker

import (
	"context"
	"errors"
	"fmt"
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
// those to drain that only half were: they have weight 0, and whoever set it
// did not live to say the rest. It does so outside, since the answers come from
// the service itself.
func (r *round) external(ctx context.Context) error {
	d := r.drain.external()
	// Who drains matters only when something might have to go.
	if d == nil || len(r.state.Apps) == 1 && r.state.Apps[0].ID == r.state.App &&
		r.state.Apps[0].Size <= r.state.Size && !r.anyDrains() {
		return nil
	}
	r.o.Outside(func() {
		var wg sync.WaitGroup
		var mu sync.Mutex
		slots := make(chan struct{}, asked)
		for a := range r.state.Apps {
			for n := range r.state.Apps[a].Tasks {
				task := &r.state.Apps[a].Tasks[n]
				if task.Health == bounce.NotRunning || task.Killing {
					continue
				}
				wg.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					half := r.weight[task.ID] == 0 && r.registered(task.ID)
					draining, safe, err := d.State(ctx, r.drainTarget(task.ID))
					if err == nil && half && !draining {
						err = d.Start(ctx, r.drainTarget(task.ID))
						draining, safe = true, false
					}
					mu.Lock()
					defer mu.Unlock()
					r.outside(task, half, draining, safe, err)
				})
			}
		}
		wg.Wait()
	})
	return nil
}

// outside puts one answer into the state.
func (r *round) outside(task *bounce.Task, half, draining, safe bool, err error) {
	task.Draining = half || draining
	task.Safe = false
	if !task.Draining {
		if err != nil {
			r.why[task.ID] = err.Error()
		}
		return
	}
	note, ok := r.note.drains[task.ID]
	if !ok {
		note = drainNote{began: r.now, version: map[string]int64{}}
		r.note.drains[task.ID] = note
	}
	left := r.drainTimeout() - r.now.Sub(note.began)
	switch {
	case left <= 0:
		r.why[task.ID] = fmt.Sprintf("drained for %s, which is as long as it may", r.drainTimeout())
		task.Safe = true
		return
	case err != nil:
		r.why[task.ID] = "drain method " + r.drain.method + ": " + err.Error()
	case safe && half:
		for _, a := range r.apps {
			for _, t := range a.Tasks {
				if t.ID == task.ID {
					task.Safe = r.drained(t)
				}
			}
		}
	case safe:
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

// drainOutside tells the drain method of tasks that are to take no more
// traffic, or to take it again. What fails is tried again by the next round.
func (r *round) drainOutside(ctx context.Context, stop, start []bounce.Step) error {
	d := r.drain.external()
	if d == nil || len(stop)+len(start) == 0 {
		return nil
	}
	var errs []error
	r.o.Outside(func() {
		for _, s := range stop {
			if err := d.Start(ctx, r.drainTarget(s.Task)); err != nil {
				errs = append(errs, err)
			}
			if _, ok := r.note.drains[s.Task]; !ok {
				r.note.drains[s.Task] = drainNote{began: r.now, version: map[string]int64{}}
			}
		}
		for _, s := range start {
			if err := d.Stop(ctx, r.drainTarget(s.Task)); err != nil {
				errs = append(errs, err)
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drain method %s: %w", r.drain.method, err)
	}
	return nil
}
