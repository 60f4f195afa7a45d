package probe

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A check that could not be made says nothing of its task: nobody is told, and
// it is made again.
func TestUnknownIsNoFailure(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	told := make(chan core.Result, 10)
	p := New(Options{
		Exec: func(context.Context, core.Task, string) error {
			switch calls.Add(1) {
			case 1:
				return fmt.Errorf("%w: the engine is frozen", ErrUnknown)
			case 2:
				return errors.New("exited with status 1")
			}
			return nil
		},
		Result:    func(r core.Result) { told <- r },
		Readiness: func(core.Readiness) {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer p.Wait()
	defer cancel()
	p.Watch(ctx, core.Task{
		ID: "task", StartedAt: time.Now().Add(-time.Hour),
		App: &definition.App{HealthChecks: []definition.HealthCheck{{Protocol: "COMMAND", Command: &definition.Command{Value: "check"}, IntervalSeconds: 1, TimeoutSeconds: 1}}},
	})
	if first := <-told; first.OK || first.Cause != "exited with status 1" || calls.Load() < 2 {
		t.Errorf("told %+v after %d calls", first, calls.Load())
	}
	if second := <-told; !second.OK {
		t.Errorf("told %+v", second)
	}
}

// An interval of 0 is no busy loop, and a timeout of 0 no failure.
func TestNoIntervalAndNoTimeout(t *testing.T) {
	t.Parallel()
	told := make(chan core.Result, 10)
	p := New(Options{
		Exec:      func(ctx context.Context, _ core.Task, _ string) error { return ctx.Err() },
		Result:    func(r core.Result) { told <- r },
		Readiness: func(core.Readiness) {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer p.Wait()
	defer cancel()
	began := time.Now()
	p.Watch(ctx, core.Task{ID: "task", StartedAt: began, App: &definition.App{
		HealthChecks: []definition.HealthCheck{{Protocol: "COMMAND", Command: &definition.Command{Value: "check"}, DelaySeconds: 15}},
	}})
	for range 2 {
		if r := <-told; !r.OK {
			t.Errorf("told %+v", r)
		}
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("checked again within %v", took)
	}
}
