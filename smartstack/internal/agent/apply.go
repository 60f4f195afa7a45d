package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// apply brings HAProxy and the files in step with what was built: at run time where
// HAProxy can, else by a reload.
func (a *Agent) apply(ctx context.Context) {
	now, p := time.Now(), a.proxy
	a.compareAdopted(now)
	a.callers.apply(ctx, p, now)
	if p.pid != 0 {
		a.unapply(p.verify(ctx))
	}
	if p.replaced {
		a.pending.add(haproxy.Adopted, "another HAProxy has taken over")
	}
	if p.pid != 0 && now.After(p.retryAt) {
		p.retryAt = time.Time{}
		a.unapply(p.reap(ctx, now))
		a.change(ctx, now)
	}
	if p.pid == 0 && len(a.sections()) > 0 {
		a.pending.add(haproxy.NotRunning, "no HAProxy runs")
	}
	if at := a.pending.due(); !at.IsZero() && !now.Before(at) && !a.gate.closed(now, p.cold, a.tree != nil, a.registrations) {
		a.reload(ctx)
	}
	if p.pid != 0 && !p.keepAt.IsZero() && now.After(p.keepAt) {
		p.keep(ctx)
	}
	a.files.write(a, time.Now())
}

// change makes what changed at run time, and finds out what takes a reload.
func (a *Agent) change(ctx context.Context, now time.Time) {
	var commands []haproxy.Command
	var changed []*registration
	for r := range a.unapplied {
		running := a.proxy.running[r.name]
		switch {
		case !r.served():
			delete(a.unapplied, r)
			continue
		case running == nil:
			a.pending.add(haproxy.ServiceNew, r.name+" is new")
			delete(a.unapplied, r)
			continue
		}
		change := a.proxy.diff(running, r.desired.section)
		if len(change.Reload) > 0 {
			for _, why := range change.Reload {
				a.pending.add(why.Kind, why.Text)
			}
			delete(a.unapplied, r)
			continue
		}
		commands = append(commands, change.Commands...)
		changed = append(changed, r)
	}
	if len(commands) > 0 {
		if err := a.proxy.command(ctx, commands, now); err != nil {
			a.proxy.retryAt = now.Add(retryCommands)
			a.proxy.runtime.CloseIdle() // it may lead to a process that finishes, and refuses all
			for _, r := range changed {
				a.proxy.unverified[r.name] = true
			}
			a.log.Error("change servers at run time failed", "err", err)
			return
		}
		a.files.config.dirty(now)
	}
	for _, r := range changed {
		a.markApplied(r)
		if running := a.proxy.running[r.name]; running.Equal(r.desired.section) {
			a.proxy.running[r.name] = r.desired.section // one is enough
		}
	}
}

// verify looks at the next part of what runs, and now and then whether what was in
// the way of a namespace is gone.
func (a *Agent) verify(ctx context.Context) {
	names, last := a.proxy.verifying.next(a.proxy.running)
	for _, name := range names {
		a.proxy.unverified[name] = true
	}
	if a.tree != nil && (last && len(a.problems) > 0 || a.custom.moved(a.problems[customProblem])) {
		a.follow(ctx)
	}
}

// died has HAProxy started again, at once, from the file.
func (a *Agent) died(ctx context.Context) {
	wait := a.proxy.died(time.Now())
	a.files.writeConfig(a)
	if wait > 0 {
		a.pending.add(haproxy.Died, "HAProxy died")
		a.pending.wait(wait)
		return
	}
	a.restart(ctx)
}

func (a *Agent) restart(ctx context.Context) {
	if err := a.proxy.restart(ctx); err != nil {
		a.pending.add(haproxy.Died, "HAProxy died")
		return
	}
	a.newProcess()
	for name := range a.proxy.running {
		a.unapply([]string{name}) // such as servers whose probes fail
	}
}

// reload gives HAProxy all that should run. When it does not work, the process
// that runs goes on, and it is tried again later.
func (a *Agent) reload(ctx context.Context) {
	if a.files.err() != nil {
		a.files.prepare(a.o)
	}
	why := a.pending.String()
	begin := time.Now()
	done, err := a.reloadOnce(ctx)
	took := time.Since(begin)
	a.pending.wait(a.o.MinInterval)
	if err != nil {
		retry := a.pending.failed(err)
		a.o.Metrics.reloads.WithLabelValues("failed").Inc()
		a.log.Error("reload failed", "err", err, "why", why, "retry_in", time.Until(retry))
		return
	}
	reasons := a.pending.reasons
	a.pending.clear()
	if !done {
		a.log.Info("needed no reload after all", "why", why, "took", took)
		return
	}
	a.o.Metrics.reloaded(reasons, took)
	a.reloaded(why, begin, took)
	a.log.Info("reloaded HAProxy", "why", why, "took", took, "pid", a.proxy.pid)
}

// reloadOnce says with done whether there is a new process.
func (a *Agent) reloadOnce(ctx context.Context) (done bool, err error) {
	if err := a.proxy.identify(ctx); err != nil {
		return false, err
	}
	if err := a.custom.takes(a.sections()); err != nil && a.custom.text != a.custom.good {
		a.problems[customProblem] = a.custom.refuse(err)
	}
	if a.proxy.cold {
		// Nothing runs that a bad config could harm, and the start itself checks it:
		// a check of its own would only double the time that clients are refused.
		err := a.swap(ctx, a.sections())
		if _, ok := errors.AsType[*haproxy.ConfigError](err); !ok {
			return err == nil, err
		}
	}
	sections, err := a.validSections(ctx)
	if err != nil {
		return false, err
	}
	if !a.proxy.replaced && a.proxy.runs(a.custom.text, sections) { // what it was to have was refused
		a.accepted(sections)
		return false, nil
	}
	err = a.swap(ctx, sections)
	return err == nil, err
}

// validSections returns the sections that HAProxy accepts. A namespace whose section
// it refuses goes back to the last one that it took, or is left out, and so do the
// operator's own sections.
func (a *Agent) validSections(ctx context.Context) ([]*haproxy.Section, error) {
	with := func(custom string) func([]*haproxy.Section) error {
		return func(sections []*haproxy.Section) error {
			return a.o.Process.Check(ctx, func(w *bufio.Writer) { haproxy.Write(w, a.proxy.global, custom, sections) })
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
				a.problems[customProblem] = a.custom.refuse(refused)
				continue
			}
			// Each has worked: a service that is new has a name or a port of theirs.
			broken, err = haproxy.Isolate(sections, with(a.custom.text))
			if _, ok := errors.AsType[*haproxy.ConfigError](err); ok && a.proxy.pid == 0 {
				// They worked with what was served, or with an older HAProxy. Now nothing
				// serves: the services do not wait for the operator.
				a.custom.good = ""
				a.problems[customProblem] = a.custom.refuse(refused)
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
			a.refuse(a.registrations[name], err)
		}
	}
	return nil, errors.New("haproxy refuses the config, and not because of single sections")
}

// refuse takes a namespace back to what worked.
func (a *Agent) refuse(r *registration, err error) {
	structure := r.namespace.Structure()
	leftOut := r.good.Source == nil || r.good.Structure() == structure
	r.refused = &refusal{err, structure, leftOut}
	a.problems[r.name] = err
	a.touched[r] = true
	if leftOut {
		a.log.Error("HAProxy refuses a namespace, it is left out", "registration", r.name, "err", err)
		return
	}
	r.namespace = r.good
	a.build(r, time.Now())
	a.log.Error("HAProxy refuses a namespace, its last good section stays", "registration", r.name, "err", err)
}

// swap starts a process with the sections, which takes over from the running one.
func (a *Agent) swap(ctx context.Context, sections []*haproxy.Section) error {
	a.files.work.Wait() // else what it writes may come after this
	before := a.proxy.pid
	err := a.proxy.start(ctx, a.custom.text, sections)
	if err != nil {
		if refused, ok := errors.AsType[*haproxy.ConfigError](err); ok {
			for name := range haproxy.Accused(refused.Output, sections) {
				a.refuse(a.registrations[name], refused) // e.g. a port that something else has taken meanwhile
			}
		}
		if before != 0 && a.proxy.pid == 0 {
			a.restart(ctx)
		}
		return err
	}
	a.newProcess()
	a.accepted(sections)
	if a.proxy.cold {
		a.proxy.cold = false
		for _, r := range a.registrations {
			a.dirty[r] = true // its servers are probed from now on
		}
	}
	for _, s := range sections {
		r := a.registrations[s.Service.Name]
		a.markApplied(r)
		if a.proxy.running[r.name] != s { // HAProxy takes servers to be up that are not
			a.unapplied[r] = true
		}
	}
	a.files.configWritten()
	return nil
}

// accepted notes that HAProxy takes what it is given.
func (a *Agent) accepted(sections []*haproxy.Section) {
	a.proxy.custom = a.custom.text
	a.custom.accept()
	for _, s := range sections {
		r := a.registrations[s.Service.Name]
		r.good = r.namespace
	}
	a.files.good.dirty(time.Now())
}

// compareAdopted finds out whether an adopted HAProxy has the structure that it
// should have.
func (a *Agent) compareAdopted(now time.Time) {
	p := a.proxy
	if p.adopted == nil || len(a.registrations) == 0 || a.tree == nil && now.Before(a.gate.until) {
		return
	}
	p.adopted = nil
	want := a.sections()
	if haproxy.StructureHash(p.global, a.custom.text, want) != p.structure {
		a.pending.add(haproxy.Adopted, "the adopted HAProxy was started with another config")
		return
	}
	for _, s := range want {
		name := s.Service.Name
		running := p.running[name]
		if running == nil { // without servers it does not show in the states
			running = a.registrations[name].namespace.Bare()
		}
		p.running[name] = s.With(running.Service) // which may be of before soa-configs were read
	}
	a.accepted(want)
	a.pending.clear()
}
