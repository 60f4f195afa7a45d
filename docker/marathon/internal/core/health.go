package core

import (
	"fmt"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A Check is what one health check has found of one task. It is not stored: after
// a restart nothing is known until a check has run again.
type Check struct {
	FirstSuccess, LastSuccess, LastFailure time.Time
	Cause                                  string
	Failures                               int // in a row
}

// Known tells whether the check has found anything.
func (c Check) Known() bool { return !c.LastSuccess.IsZero() || !c.LastFailure.IsZero() }

// Alive tells whether the last that was found is good.
func (c Check) Alive() bool { return !c.LastSuccess.IsZero() && c.LastSuccess.After(c.LastFailure) }

// Healthy returns what the health checks say together: nil while one has found
// nothing yet, or when there is none.
func (t *Task) Healthy() *bool {
	unknown, healthy := len(t.checks) == 0, true
	for _, c := range t.checks {
		switch {
		case !c.Known():
			unknown = true
		case !c.Alive():
			healthy = false
		}
	}
	if healthy && unknown {
		return nil
	}
	return &healthy
}

// A Result is what one run of a health check found.
type Result struct {
	TaskID string
	Index  int // of the check
	OK     bool
	Cause  string // when not OK, e.g. "503 Service Unavailable"
}

// HandleResult takes in the result of a health check.
func (m *Machine) HandleResult(now time.Time, r Result) {
	t := m.byID[r.TaskID]
	if t == nil || t.State != Running || r.Index >= len(t.checks) {
		return
	}
	h, c := t.App.HealthChecks[r.Index], &t.checks[r.Index]
	wasAlive, wasKnown, was := c.Alive(), c.Known(), t.Healthy()
	if r.OK {
		if c.FirstSuccess.IsZero() {
			c.FirstSuccess = now
		}
		c.LastSuccess, c.Failures = now, 0
		if !c.LastSuccess.After(c.LastFailure) {
			c.LastSuccess = c.LastFailure.Add(time.Nanosecond) // two results of one instant
		}
	} else if m.fail(now, t, h, c, r.Cause) {
		m.reconcile(now)
		return
	}
	if alive := c.Alive(); alive != wasAlive || !wasKnown && c.Known() {
		m.emit(now, "health_status_changed_event", map[string]any{
			"appId": t.AppID, "instanceId": t.InstanceID(), "taskId": t.ID, "version": t.Version, "alive": alive,
		})
	}
	if is := t.Healthy(); fmt.Sprint(deref(was)) != fmt.Sprint(deref(is)) {
		m.emit(now, "instance_health_changed_event", map[string]any{
			"instanceId": t.InstanceID(), "runSpecId": t.AppID, "healthy": is, "runSpecVersion": t.Version,
		})
		m.dirty[t.AppID] = true
		m.reconcile(now)
	}
}

func deref(b *bool) any {
	if b == nil {
		return nil
	}
	return *b
}

// fail takes in a failed check. It reports true when the task is killed for it.
func (m *Machine) fail(now time.Time, t *Task, h definition.HealthCheck, c *Check, cause string) bool {
	grace := time.Duration(h.GracePeriodSeconds) * time.Second
	if c.FirstSuccess.IsZero() && now.Before(t.StartedAt.Add(grace)) {
		return false // it may be starting yet: nothing is recorded
	}
	m.emit(now, "failed_health_check_event", map[string]any{"appId": t.AppID, "taskId": t.InstanceID(), "healthCheck": h})
	limit := h.MaxConsecutiveFailures
	before := c.Failures
	c.LastFailure, c.Cause = now, cause
	if !c.LastFailure.After(c.LastSuccess) {
		c.LastFailure = c.LastSuccess.Add(time.Nanosecond)
	}
	c.Failures++
	if h.Mesos() {
		before++ // the executor kills at the limit, Marathon at one more
	}
	if limit == 0 || before < limit || t.Decommissioned {
		return false
	}
	m.emit(now, "unhealthy_instance_kill_event", map[string]any{
		"appId": t.AppID, "taskId": t.ID, "instanceId": t.InstanceID(), "version": t.Version, "reason": cause,
		"host": t.Host, "slaveId": t.AgentID,
	})
	m.decommission(now, t, "Task was killed since health check failed. Reason: "+cause)
	return true
}

// A Readiness is the latest answer to a readiness check.
type Readiness struct {
	TaskID      string
	Ready       bool
	Status      int // 0 when there was no answer
	ContentType string
	Body        string
}

// HandleReadiness takes in the result of a readiness check. Once ready, a task
// stays so.
func (m *Machine) HandleReadiness(now time.Time, r Readiness) {
	t := m.byID[r.TaskID]
	if t == nil {
		return
	}
	t.readiness = &r
	if r.Ready && !t.Ready {
		t.Ready = true
		m.save(t)
		m.reconcile(now)
	}
}
