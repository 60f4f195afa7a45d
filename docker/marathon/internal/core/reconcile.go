package core

import (
	"maps"
	"slices"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// reconcile takes everything as far as it goes now: deployments, sizes, launches.
// It looks only at dirty apps, and at them until nothing moves any more.
func (m *Machine) reconcile(now time.Time) {
	for {
		moved := false
		for _, d := range slices.Clone(m.deployments) {
			moved = m.advance(now, d) || moved
		}
		if m.freed {
			m.freed = false
			for id := range m.queue {
				m.dirty[id] = true
			}
		}
		todo := m.dirty
		m.dirty = map[string]bool{}
		for _, id := range slices.Sorted(maps.Keys(todo)) {
			m.reconcileApp(now, id)
		}
		// Once more after any work: it may be what a deployment waits for.
		if !moved && len(todo) == 0 && !m.freed {
			return
		}
	}
}

// advance takes a deployment over every step that is done. It reports whether
// there was one.
func (m *Machine) advance(now time.Time, d *Deployment) (moved bool) {
	if m.deployment(d.ID) == nil {
		return false
	}
	for {
		if d.Step > 0 && d.Step <= len(d.Steps) {
			for _, a := range d.Steps[d.Step-1].Actions {
				if !m.done(now, d, a) {
					return moved
				}
			}
			m.emitPlan(now, "deployment_step_success", d, map[string]any{"currentStep": d.Steps[d.Step-1]})
		}
		moved = true
		d.Step++
		d.Progress = map[string]*Progress{}
		if d.Step > len(d.Steps) {
			m.dropDeployment(d)
			m.emitPlan(now, "deployment_success", d, map[string]any{"id": d.ID})
			return true
		}
		m.changes["deployment:"+d.ID] = d
		m.emitPlan(now, "deployment_info", d, map[string]any{"currentStep": d.Steps[d.Step-1]})
		for _, a := range d.Steps[d.Step-1].Actions {
			m.begin(now, d, a)
		}
	}
}

// begin is what is done once when an action starts.
func (m *Machine) begin(now time.Time, d *Deployment, action Action) {
	m.dirty[action.App] = true
	a := m.apps[action.App]
	switch action.Action {
	case StopApplication:
		for _, t := range m.appTasks(action.App) {
			m.decommission(now, t, "")
		}
		m.emit(now, "remove_health_check_event", map[string]any{"appId": action.App})
	case ScaleApplication:
		m.announceChecks(now, a)
	case RestartApplication:
		m.announceChecks(now, a)
		m.resetDelay(a.ID)
		old, _ := m.oldAndNew(a)
		all := m.wanted(a.ID)
		p := &Progress{PlanRoll(a.Instances, a.UpgradeStrategy, len(filter(all, countsAsHealthy)), len(all)), map[string]bool{}}
		d.Progress[a.ID] = p
		old = unhealthyFirst(m.killOrder(a, old, p.KillNow))
		for _, t := range old[:min(p.KillNow, len(old))] {
			m.decommission(now, t, "")
		}
		m.changes["deployment:"+d.ID] = d
	}
}

func (m *Machine) announceChecks(now time.Time, a *definition.App) {
	if a == nil {
		return
	}
	for _, h := range a.HealthChecks {
		m.emit(now, "add_health_check_event", map[string]any{"appId": a.ID, "version": a.Version, "healthCheck": h})
	}
}

// oldAndNew parts an app's tasks that should go on into old and new.
func (m *Machine) oldAndNew(a *definition.App) (older, current []*Task) {
	all := m.wanted(a.ID)
	isNew := func(t *Task) bool { return t.upToDate(a) }
	return filter(all, func(t *Task) bool { return !isNew(t) }), filter(all, isNew)
}

// wanted returns an app's tasks that should go on, oldest first.
func (m *Machine) wanted(id string) []*Task {
	return filter(m.appTasks(id), func(t *Task) bool { return !t.Decommissioned })
}

// unhealthyFirst moves tasks that do not count as healthy to the front.
func unhealthyFirst(tasks []*Task) []*Task {
	return slices.Concat(filter(tasks, func(t *Task) bool { return !countsAsHealthy(t) }), filter(tasks, countsAsHealthy))
}

func filter(tasks []*Task, keep func(*Task) bool) (kept []*Task) {
	for _, t := range tasks {
		if keep(t) {
			kept = append(kept, t)
		}
	}
	return kept
}

// countsAsHealthy tells whether a task is healthy, or has no health checks.
func countsAsHealthy(t *Task) bool {
	healthy := t.Healthy()
	return len(t.App.HealthChecks) == 0 || healthy != nil && *healthy
}

// available tells whether a task runs, is healthy and is ready.
func available(t *Task) bool {
	return t.State == Running && !t.Decommissioned && t.Ready && countsAsHealthy(t)
}

// done tells whether an action has reached its end.
func (m *Machine) done(now time.Time, d *Deployment, action Action) bool {
	a := m.apps[action.App]
	switch action.Action {
	case StartApplication:
		return true
	case StopApplication:
		if len(m.tasks[action.App]) > 0 {
			return false
		}
		m.emit(now, "app_terminated_event", map[string]any{"appId": action.App})
		delete(m.failures, action.App)
		m.changes["failure:"+action.App] = nil
		return true
	}
	if a == nil {
		return true // deleted by force meanwhile
	}
	tasks := m.appTasks(a.ID)
	if action.Action == ScaleApplication {
		return len(m.wanted(a.ID)) == len(tasks) && len(filter(tasks, available)) == a.Instances
	}
	p := d.Progress[a.ID]
	if p == nil {
		return false
	}
	return len(p.Counted) >= a.Instances && !slices.ContainsFunc(tasks, func(t *Task) bool { return !t.upToDate(a) })
}

// reconcileApp brings the number of an app's tasks to what it should be now.
func (m *Machine) reconcileApp(now time.Time, id string) {
	a := m.apps[id]
	if a == nil {
		delete(m.queue, id)
		for _, t := range m.appTasks(id) {
			m.decommission(now, t, "")
		}
		return
	}
	for _, d := range m.deployments {
		for i, s := range d.Steps {
			for _, action := range s.Actions {
				if action.App != id || action.Action == StartApplication {
					continue
				}
				switch {
				case i+1 > d.Step:
					return // its turn comes
				case i+1 == d.Step && action.Action == RestartApplication:
					m.roll(now, a, d)
					return
				}
			}
		}
	}
	active := m.wanted(id)
	if surplus := len(active) - a.Instances; surplus > 0 {
		for _, t := range m.killOrder(a, active, surplus)[:surplus] {
			m.decommission(now, t, "")
		}
	}
	m.launch(now, a, a.Instances-len(active))
}

// roll takes a rolling replacement further: each new task that has become good
// lets one old go, each old one that has gone makes room for a new.
func (m *Machine) roll(now time.Time, a *definition.App, d *Deployment) {
	p := d.Progress[a.ID]
	older, current := m.oldAndNew(a)
	// One that has ended counts no more.
	maps.DeleteFunc(p.Counted, func(id string, _ bool) bool { t := m.byID[id]; return t == nil || t.Decommissioned })
	kills := 0
	for _, t := range current {
		if available(t) && !p.Counted[t.ID] {
			p.Counted[t.ID] = true
			kills++
			m.changes["deployment:"+d.ID] = d
		}
	}
	if len(p.Counted) >= a.Instances {
		kills = len(older)
	}
	older = unhealthyFirst(m.killOrder(a, older, kills))
	for _, t := range older[:min(kills, len(older))] {
		m.decommission(now, t, "")
	}
	if surplus := len(current) - a.Instances; surplus > 0 {
		for _, t := range m.killOrder(a, current, surplus)[:surplus] {
			m.decommission(now, t, "")
		}
		current = current[:a.Instances] // how many matters, not which
	}
	oldActive, moving := 0, false
	for _, t := range m.tasks[a.ID] {
		moving = moving || t.Decommissioned
		if !t.upToDate(a) {
			oldActive++
		}
	}
	missing, room := a.Instances-len(current), p.MaxCapacity-oldActive-len(current)
	if missing > 0 && room <= 0 && !moving && len(p.Counted) == len(current) {
		// Nothing will move by itself any more. Marathon stays like this for ever,
		// for instance when no old task was healthy at the start.
		p.MaxCapacity += 1 - room
		room = 1
		m.changes["deployment:"+d.ID] = d
	}
	m.launch(now, a, min(missing, room))
}

// Tick does what is due by time alone.
func (m *Machine) Tick(now time.Time) {
	for id := range m.queue {
		if a := m.apps[id]; a == nil || m.wait(now, a) == 0 {
			m.dirty[id] = true
		}
	}
	for id, d := range m.delays {
		if now.After(d.Ref.Add(time.Duration(d.Max*float64(time.Second)))) && m.queue[id] == nil {
			m.resetDelay(id)
		}
	}
	for _, t := range m.byID {
		if t.Decommissioned && !t.launching && t.State != Unreachable && now.Sub(t.KillAt) >= m.cfg.KillRetry+m.grace(t.App) {
			m.kill(now, t)
			m.save(t)
		}
	}
	m.reconcile(now)
}

// Next returns when Tick is due at the latest.
func (m *Machine) Next(now time.Time) time.Time {
	next := now.Add(5 * time.Second)
	for id := range m.queue {
		if a := m.apps[id]; a != nil {
			if wait := m.wait(now, a); wait > 0 && now.Add(wait).Before(next) {
				next = now.Add(wait)
			}
		}
	}
	return next
}
