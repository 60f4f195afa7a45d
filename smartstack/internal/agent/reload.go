package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/reload"
)

// reload gives HAProxy all that should run. When it does not work, the process
// that runs goes on, and it is tried again later.
func (a *Agent) reload(ctx context.Context) {
	if a.files.err() != nil {
		a.prepare()
	}
	why := a.hap.wishes.String()
	start := time.Now()
	done, err := a.reloadOnce(ctx)
	took := time.Since(start)
	a.hap.wishes.notBefore = time.Now().Add(a.o.MinInterval)
	if err != nil {
		a.hap.failures++
		a.hap.wishes.notBefore = latest(a.hap.wishes.notBefore, time.Now().Add(min(100*time.Millisecond<<min(a.hap.failures, 10), time.Minute)))
		a.hap.lastErr = err.Error()
		a.o.Metrics.reloads.WithLabelValues("failed").Inc()
		a.log.Error("reload", "err", err, "why", why, "retry_in", time.Until(a.hap.wishes.notBefore))
		return
	}
	reasons := a.hap.wishes.reasons
	a.hap.wishes.clear()
	a.hap.failures, a.hap.lastErr = 0, ""
	if !done {
		a.log.Info("needed no reload after all", "why", why, "took", took)
		return
	}
	a.o.Metrics.reloaded(reasons)
	a.hap.reloads++
	a.hap.lastWhy, a.hap.lastAt, a.hap.lastTook = why, start, took
	a.o.Metrics.reloads.WithLabelValues("done").Inc()
	a.o.Metrics.reloadTook.Observe(took.Seconds())
	a.log.Info("reloaded HAProxy", "why", why, "took", took, "pid", a.hap.pid)
}

// reloadOnce says with done whether there is a new process.
func (a *Agent) reloadOnce(ctx context.Context) (done bool, err error) {
	if err := a.identify(ctx); err != nil {
		return false, err
	}
	if a.hap.cold {
		// Nothing runs that a bad config could harm, and the start itself checks it:
		// a check of its own would only double the time that clients are refused.
		err := a.swap(ctx, a.sections())
		if _, ok := errors.AsType[*haproxy.ConfigError](err); !ok {
			return err == nil, err
		}
	}
	sections, err := a.sound(ctx)
	if err != nil {
		return false, err
	}
	if a.runsAlready(sections) { // what was wished for was refused
		a.accepted(sections)
		return false, nil
	}
	err = a.swap(ctx, sections)
	return err == nil, err
}

// runsAlready tells whether the process that runs has all but what changes at
// run time.
func (a *Agent) runsAlready(sections []*haproxy.Section) bool {
	if a.hap.pid == 0 || haproxy.StructureHash(a.o.Global, a.custom.text, sections) != a.hap.hash {
		return false
	}
	for _, s := range sections {
		run := a.hap.running[s.Service.Name]
		if run == nil {
			return false
		}
		if change := haproxy.Diff(run, s); len(change.Reload) > 0 || !a.o.Global.Version.Dynamic() && len(change.Commands) > 0 {
			return false
		}
	}
	return true
}

// accepted notes that HAProxy takes what it is given.
func (a *Agent) accepted(sections []*haproxy.Section) {
	a.hap.custom = a.custom.text
	a.custom.took(a)
	for _, s := range sections {
		r := a.registrations[s.Service.Name]
		r.good = r.namespace
	}
	a.files.goodDirty(time.Now())
}

// sound returns the sections that HAProxy accepts. A namespace whose section it
// refuses goes back to the last one that it took, or is left out, and so do the
// operator's own sections.
func (a *Agent) sound(ctx context.Context) ([]*haproxy.Section, error) {
	with := func(custom string) func([]*haproxy.Section) error {
		return func(sections []*haproxy.Section) error {
			return a.o.Process.CheckBy(ctx, func(w *bufio.Writer) { haproxy.Write(w, a.o.Global, custom, sections) })
		}
	}
	for range 3 {
		sections := a.sections()
		err := with(a.custom.text)(sections)
		refused, ok := errors.AsType[*haproxy.ConfigError](err)
		if !ok {
			return sections, err
		}
		// First the services by themselves: what an operator wrote may refer to one
		// that is broken, and is refused with it.
		broken, err := haproxy.Isolate(sections, with(""))
		if err == nil && len(broken) == 0 {
			if a.custom.text != a.custom.good {
				a.refuseCustom(refused)
				continue
			}
			// Each has worked: a service that is new has a name or a port of theirs.
			broken, err = haproxy.Isolate(sections, with(a.custom.text))
			if _, ok := errors.AsType[*haproxy.ConfigError](err); ok && a.hap.pid == 0 {
				// They worked with what was served, or with an older HAProxy. Now nothing
				// serves: the services do not wait for the operator.
				a.custom.good = ""
				a.refuseCustom(refused)
				continue
			}
			if err != nil {
				a.problems[customProblem] = fmt.Errorf("it refers to what is not served any more: %w", refused)
			}
		}
		if err != nil {
			return nil, err
		}
		for name, err := range broken {
			a.refuse(name, err)
		}
	}
	return nil, errors.New("haproxy refuses the config, and not because of single sections")
}

// answers tells whether the process pid has the runtime API, and so listens: one
// that was told to finish lets go of all of its listeners together. It is asked
// also when the agent is about to end.
func (a *Agent) answers(ctx context.Context, pid int) bool {
	ctx = context.WithoutCancel(ctx)
	for range 5 {
		in, ok, err := a.o.Process.Running(ctx)
		if err == nil {
			return ok && in.PID == pid
		}
		time.Sleep(10 * time.Millisecond) // it was asked just as it let go
	}
	return false
}

// swap starts a process with the sections, which takes over from the running
// one.
func (a *Agent) swap(ctx context.Context, sections []*haproxy.Section) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.runtime.CloseIdle()            // else the old process waits for it
	a.files.work.Wait()              // else what it writes may come after this
	last, _ := a.o.Process.Written() // none yet: nothing to go back to
	if err := a.o.Process.WriteBy(func(w *bufio.Writer) { haproxy.Write(w, a.o.Global, a.custom.text, sections) }); err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	a.fit(sections)
	old := a.hap.pid
	if err := a.o.Process.KeepHealth(ctx, old); err != nil {
		a.log.Warn("reloading without the servers' health", "err", err)
	}
	var pid int
	reloader := reload.Reloader{Plug: a.o.Plug, Longest: a.o.Hold, Log: a.log}
	err := reloader.Do(ctx, func(ctx context.Context) error {
		var err error
		pid, err = a.o.Process.Start(ctx, old)
		return err
	})
	if pid == 0 {
		if refused, ok := errors.AsType[*haproxy.ConfigError](err); ok {
			for name := range haproxy.Accused(refused.Output, sections) {
				a.refuse(name, refused) // e.g. a port that something else has taken meanwhile
			}
		}
		if len(last) > 0 {
			err = errors.Join(err, a.o.Process.Write(last))
		}
		if old != 0 && !a.answers(ctx, old) {
			// The new one ended after it had told the old one to finish: nobody
			// accepts connections. They wait in the listeners that we keep.
			a.log.Error("neither the old HAProxy nor the new one serves", "pid", old)
			a.hap.pid, a.hap.gone = 0, nil
			a.restart(ctx)
		}
		return err
	}
	if err != nil {
		a.log.Error("reload", "err", err) // it runs, but connections may still be held
	}
	a.hap.running = make(map[string]*haproxy.Section, len(sections))
	for _, s := range sections {
		a.hap.running[s.Service.Name] = s
	}
	a.hap.leaving, a.hap.doubts = map[string]time.Time{}, map[string]bool{}
	a.hap.hash = haproxy.StructureHash(a.o.Global, a.custom.text, sections)
	a.accepted(sections)
	a.started(ctx, pid)
	if a.hap.cold {
		a.hap.cold = false
		for _, r := range a.registrations {
			a.probe(r) // those that serve unproven
		}
	}
	for _, s := range sections {
		r := a.registrations[s.Service.Name]
		r.changed, r.waiting, r.applied, r.touched = false, 0, r.set.Version, true
		a.stir(r)
	}
	a.files.clean()
	return nil
}
