package core

import (
	"math"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A Delay holds back the launches of an app whose tasks end badly.
type Delay struct {
	Key     string    `json:"key"` // lastConfigChangeAt: another config starts anew
	Ref     time.Time `json:"ref"` // counts from here
	Seconds float64   `json:"seconds"`
	Max     float64   `json:"max"`
}

// until returns when the delay is over.
func (d *Delay) until() time.Time {
	return d.Ref.Add(time.Duration(d.Seconds * float64(time.Second)))
}

// NextDelay returns the delay after one more bad end, in seconds; previous is
// negative for the first.
func NextDelay(previous float64, a *definition.App) float64 {
	if previous < 0 {
		return math.Min(a.BackoffSeconds, a.MaxLaunchDelaySeconds)
	}
	return math.Min(a.MaxLaunchDelaySeconds, previous*a.BackoffFactor)
}

// backOff makes the next launch of a task's app wait longer.
func (m *Machine) backOff(now time.Time, t *Task) {
	a := m.apps[t.AppID]
	if a == nil || !t.upToDate(a) {
		return
	}
	d := m.delays[a.ID]
	if d == nil || d.Key != a.VersionInfo.LastConfigChangeAt {
		d = &Delay{Key: a.VersionInfo.LastConfigChangeAt, Seconds: -1}
	}
	d.Ref, d.Seconds, d.Max = now, NextDelay(d.Seconds, a), a.MaxLaunchDelaySeconds
	m.delays[a.ID] = d
	m.changes["delay:"+a.ID] = d
}

func (m *Machine) resetDelay(appID string) {
	if m.delays[appID] != nil {
		delete(m.delays, appID)
		m.changes["delay:"+appID] = nil
	}
}

// wait returns how long the app's launches must wait yet.
func (m *Machine) wait(now time.Time, a *definition.App) time.Duration {
	d := m.delays[a.ID]
	if d == nil || d.Key != a.VersionInfo.LastConfigChangeAt {
		return 0
	}
	return max(0, d.until().Sub(now))
}

// ResetDelay lets an app's waiting tasks be launched now. It reports false when
// none waits.
func (m *Machine) ResetDelay(now time.Time, appID string) bool {
	if m.queue[appID] == nil {
		return false
	}
	m.resetDelay(appID)
	m.dirty[appID] = true
	m.reconcile(now)
	return true
}

// Queued says how many tasks of an app wait to be launched, and why.
type Queued struct {
	Offers
	Count int
	Since time.Time
}

// launch starts up to n tasks of an app, and queues those that cannot be.
func (m *Machine) launch(now time.Time, a *definition.App, n int) {
	q := m.queue[a.ID]
	if q == nil {
		q = &Queued{Since: now}
	}
	if n > 0 && m.wait(now, a) == 0 && (!m.engineDown || a.Image() == "") {
		for n > 0 && m.place(now, a, &q.Offers) {
			n--
		}
	}
	if n <= 0 {
		delete(m.queue, a.ID)
		return
	}
	q.Count = n
	m.queue[a.ID] = q
}

// place starts one task on the best agent that fits. It reports false when none
// does, and notes why.
func (m *Machine) place(now time.Time, a *definition.App, o *Offers) bool {
	agent, slots, summary := m.match(now, a)
	o.Processed += len(m.cfg.Agents)
	o.Last = summary
	if agent == nil {
		o.Unused += len(m.cfg.Agents)
		o.LastUnused = now
		return false
	}
	o.Unused += len(m.cfg.Agents) - 1
	t := &Task{
		ID: m.taskID(a.ID), AppID: a.ID, AgentID: agent.ID, Host: agent.Hostname, Address: agent.Address, Slots: slots, Ports: []int{},
		Version: a.Version, App: a, State: Staging, StagedAt: now, checks: make([]Check, len(a.HealthChecks)),
		Ready: len(a.ReadinessChecks) == 0,
	}
	for _, p := range slots {
		if p != 0 {
			t.Ports = append(t.Ports, p)
		}
	}
	m.addTask(t)
	m.start(t)
	m.emitStatus(now, t, "")
	return true
}

// start hands a task to its runner.
func (m *Machine) start(t *Task) {
	t.launching = true
	m.save(t)
	agent := Agent{ID: t.AgentID, Hostname: t.Host, Address: t.Address} // when it was configured away meanwhile
	if x := m.agents[t.AgentID]; x != nil {
		agent = *x
	}
	m.effects = append(m.effects, Effect{Launch: &Launch{Task: *t, Agent: agent, Env: Env(t, m.cfg.EnvPrefix)}})
}
