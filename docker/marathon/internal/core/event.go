package core

import (
	"maps"
	"strings"
	"time"
)

// An Event is one of the event stream.
type Event struct {
	Type string
	// Fields are those of the event without eventType and timestamp. Their values
	// are not changed afterwards.
	Fields map[string]any
	Time   time.Time
	// Plan is set for events of deployments. The full form of the event has two
	// groups in it that the light one lacks.
	Plan *EventPlan
}

// An EventPlan is a deployment's plan in an event.
type EventPlan struct {
	ID      string
	Version string
	Steps   []Step
}

// Document returns the event as it is sent.
func (e Event) Document(light bool) map[string]any {
	doc := map[string]any{"eventType": e.Type, "timestamp": Timestamp(e.Time)}
	maps.Copy(doc, e.Fields)
	if e.Plan != nil {
		steps := e.Plan.Steps
		if steps == nil {
			steps = []Step{}
		}
		plan := map[string]any{"id": e.Plan.ID, "version": e.Plan.Version, "steps": steps}
		if !light {
			// python-marathon fails without them, and nobody needs what would be in
			// them.
			group := map[string]any{
				"id": "/", "apps": []any{}, "groups": []any{}, "pods": []any{}, "dependencies": []any{}, "version": e.Plan.Version,
			}
			plan["original"], plan["target"] = group, group
		}
		doc["plan"] = plan
	}
	return doc
}

func (m *Machine) emit(now time.Time, kind string, fields map[string]any) {
	m.events = append(m.events, Event{Type: kind, Fields: fields, Time: now})
}

func (m *Machine) emitPlan(now time.Time, kind string, d *Deployment, fields map[string]any) {
	m.events = append(m.events, Event{Type: kind, Fields: fields, Time: now, Plan: &EventPlan{d.ID, d.Version, d.Steps}})
}

// condition is a task's state as Marathon names it, e.g. "Running".
func condition(state string) string {
	name := strings.TrimPrefix(state, "TASK_")
	return name[:1] + strings.ToLower(name[1:])
}

func (m *Machine) emitStatus(now time.Time, t *Task, message string) {
	m.emit(now, "status_update_event", map[string]any{
		"slaveId": t.AgentID, "taskId": t.ID, "taskStatus": t.State, "message": message, "appId": t.AppID, "host": t.Host,
		"ipAddresses": t.addresses(), "ports": t.Ports, "version": t.Version,
	})
	m.emit(now, "instance_changed_event", map[string]any{
		"instanceId": t.InstanceID(), "condition": condition(t.State), "runSpecId": t.AppID, "agentId": t.AgentID,
		"host": t.Host, "runSpecVersion": t.Version,
	})
}

// An Address is one of a task's.
type Address struct {
	IPAddress string `json:"ipAddress"`
	Protocol  string `json:"protocol"`
}

func (t *Task) addresses() []Address {
	ip := t.IP
	if ip == "" {
		ip = t.Address
	}
	return []Address{{ip, "IPv4"}}
}
