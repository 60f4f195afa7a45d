package marathon

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// An input is something for the owner of the machine to do. stored, if any, is
// told once what it changed is stored.
type input struct {
	do     func(now time.Time)
	stored chan error
}

// tell hands an input over and does not wait for it to be done.
func (s *server) tell(do func(now time.Time)) {
	select {
	case s.inputs <- input{do: do}:
	case <-s.ctx.Done():
	}
}

// do lets f use the machine, and returns once what it changed is stored.
func (s *server) do(ctx context.Context, f func(m *core.Machine, now time.Time)) error {
	stored := make(chan error, 1)
	select {
	case s.inputs <- input{func(now time.Time) { f(s.machine, now) }, stored}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return fmt.Errorf("paasta marathon is stopping")
	}
	// Once handed over it must be waited for: the answer is written meanwhile.
	select {
	case err := <-stored:
		return err
	case <-s.ctx.Done():
		return fmt.Errorf("paasta marathon is stopping")
	}
}

// batch is how many inputs share one write to the disk at most.
const batch = 64

// own does one input after the other. Nothing that follows from an input is told
// or done before it is stored, so that a crash at any point is as if it came
// just before or just after.
func (s *server) own(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	// When Tick is due. Inputs may bring it forward and never put it off: with
	// somebody asking all the time it would never come.
	var due time.Time
	for {
		var waiting []chan error
		take := func(in input) {
			in.do(time.Now())
			if in.stored != nil {
				waiting = append(waiting, in.stored)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case in := <-s.inputs:
			take(in)
			for n := 1; n < batch; n++ {
				select {
				case in := <-s.inputs:
					take(in)
					continue
				default:
				}
				break
			}
		case <-timer.C:
			s.machine.Tick(time.Now())
			due = time.Time{}
		}
		err := s.commit(ctx)
		for _, w := range waiting {
			w <- err
		}
		now := time.Now()
		if at := s.machine.Next(now); due.IsZero() || at.Before(due) {
			due = at
		}
		next := due.Sub(now)
		if err != nil {
			s.log.Error("store the state failed, nothing is started or stopped meanwhile", "err", err, "retry_in", time.Second)
			next = time.Second
		}
		timer.Reset(max(next, time.Millisecond))
	}
}

// commit stores what has changed, and then tells and does what follows.
func (s *server) commit(ctx context.Context) error {
	maps.Copy(s.unstored, s.machine.Changes())
	if err := s.store.Commit(s.unstored); err != nil {
		return err
	}
	clear(s.unstored)
	if events := s.machine.Events(); len(events) > 0 {
		s.hub.Send(events)
		s.counters.events(events)
	}
	for _, e := range s.machine.Effects() {
		if e.Launch != nil {
			s.counters["tasks.launched.counter"]++
		}
		switch {
		case e.Launch != nil && e.Launch.Task.Process():
			s.log.Info("launching a task", "task", e.Launch.Task.ID, "agent", e.Launch.Agent.Hostname)
			s.process.Launch(*e.Launch)
		case e.Launch != nil:
			s.log.Info("launching a task", "task", e.Launch.Task.ID, "agent", e.Launch.Agent.Hostname, "image", e.Launch.Task.App.Image())
			s.engine.Launch(*e.Launch)
		case e.Kill != nil && e.Kill.Process:
			s.log.Info("killing a task", "task", e.Kill.TaskID)
			s.process.Kill(*e.Kill)
		case e.Kill != nil:
			s.log.Info("killing a task", "task", e.Kill.TaskID)
			s.engine.Kill(*e.Kill)
		case e.Watch != nil:
			s.probe.Watch(ctx, e.Watch.Task)
		case e.Forget != "":
			s.probe.Forget(e.Forget)
			select {
			case s.unkept <- struct{}{}:
			default:
			}
		}
	}
	return nil
}
