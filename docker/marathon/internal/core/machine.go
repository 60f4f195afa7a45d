// Package core is the machine behind paasta marathon: apps, versions, groups,
// deployments, tasks, the launch queue, health. It is pure: each method takes
// the time and what has happened, changes the state, and leaves behind what is
// to be stored (Changes), told (Events) and done (Effects). One goroutine owns
// a Machine.
package core

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// Config is what a Machine is made of.
type Config struct {
	Agents            []Agent
	EnvPrefix         string // of the PORT and HOST variables, e.g. "MARATHON_"; "" for none
	ServicePortLow    int    // first and last of the service ports that it gives out
	ServicePortHigh   int
	MaxDeployments    int           // at once
	DefaultGrace      time.Duration // from the first signal to the last, where the app says nothing
	KillRetry         time.Duration // how long until a kill is tried again
	NewID             func() string // a new UUID; nil for random ones
	VersionsPerObject int           // of history
}

// An Agent is one of the virtual machines that tasks are spread over.
type Agent struct {
	ID         string            `json:"id"`       // e.g. "…-S0"
	Hostname   string            `json:"hostname"` // the "host" of its tasks
	Address    string            `json:"address"`  // where its tasks' ports are
	Attributes map[string]string `json:"attributes"`
	CPUs       float64           `json:"cpus"`
	Mem        float64           `json:"mem"`  // MiB
	Disk       float64           `json:"disk"` // MiB
	PortLow    int               `json:"port_low"`
	PortHigh   int               `json:"port_high"`
}

// A Machine is the state, and what follows from it.
type Machine struct {
	cfg    Config
	agents map[string]*Agent

	apps        map[string]*definition.App
	versions    map[string][]*definition.App // oldest first
	groups      map[string][]string          // id → what it depends on
	history     []*Revision                  // oldest first
	tasks       map[string]map[string]*Task  // app id → task id → task
	byID        map[string]*Task
	deployments []*Deployment // oldest first
	delays      map[string]*Delay
	failures    map[string]*Failure
	ended       map[string]*Ended // whose output is still to be kept
	meta        meta

	engineDown bool
	queue      map[string]*Queued // app id → tasks that wait to be launched
	dirty      map[string]bool    // apps to look at
	freed      bool               // resources were freed: look at all that wait
	nextPort   int

	changes map[string]any
	events  []Event
	effects []Effect
}

type meta struct {
	LastVersion string `json:"lastVersion"`
	Root        string `json:"root"` // the version of all groups: that of the last change
	FrameworkID string `json:"frameworkId"`
}

// New returns an empty machine.
func New(cfg Config) *Machine {
	if cfg.NewID == nil {
		cfg.NewID = randomUUID
	}
	m := &Machine{
		cfg: cfg, agents: map[string]*Agent{}, apps: map[string]*definition.App{},
		versions: map[string][]*definition.App{}, groups: map[string][]string{}, tasks: map[string]map[string]*Task{},
		byID: map[string]*Task{}, delays: map[string]*Delay{}, failures: map[string]*Failure{}, ended: map[string]*Ended{},
		queue: map[string]*Queued{}, dirty: map[string]bool{}, changes: map[string]any{},
	}
	for i := range cfg.Agents {
		m.agents[cfg.Agents[i].ID] = &cfg.Agents[i]
	}
	return m
}

func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Load fills an empty machine from what Changes returned in the past, key by
// key. It reports the first record that cannot be read.
func (m *Machine) Load(records map[string]json.RawMessage) error {
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if err := m.load(key, records[key]); err != nil {
			return fmt.Errorf("stored %s: %w", key, err)
		}
	}
	for _, list := range m.versions {
		slices.SortFunc(list, func(a, b *definition.App) int { return strings.Compare(a.Version, b.Version) })
	}
	slices.SortFunc(m.history, func(a, b *Revision) int { return strings.Compare(a.Version, b.Version) })
	slices.SortFunc(m.deployments, func(a, b *Deployment) int { return strings.Compare(a.Version, b.Version) })
	for id := range m.apps {
		m.dirty[id] = true
	}
	return nil
}

func (m *Machine) load(key string, text json.RawMessage) error {
	kind, id, _ := strings.Cut(key, ":")
	switch kind {
	case "meta":
		return json.Unmarshal(text, &m.meta)
	case "group":
		dependencies := []string{}
		var err error
		if text[0] == '[' { // else a version, as it was stored once
			err = json.Unmarshal(text, &dependencies)
		}
		m.groups[id] = dependencies
		return err
	case "past":
		p := new(Revision)
		m.history = append(m.history, p)
		return json.Unmarshal(text, p)
	case "app":
		return loadInto(m.apps, id, text)
	case "version":
		id, _, _ = strings.Cut(id, "@")
		a := new(definition.App)
		m.versions[id] = append(m.versions[id], a)
		return json.Unmarshal(text, a)
	case "deployment":
		d := new(Deployment)
		m.deployments = append(m.deployments, d)
		return json.Unmarshal(text, d)
	case "delay":
		return loadInto(m.delays, id, text)
	case "failure":
		return loadInto(m.failures, id, text)
	case "ended":
		return loadInto(m.ended, id, text)
	case "task":
		t := new(Task)
		if err := json.Unmarshal(text, t); err != nil {
			return err
		}
		t.checks = make([]Check, len(t.App.HealthChecks))
		m.addTask(t)
		return nil
	}
	return fmt.Errorf("unknown kind %q: was this state written by a newer version?", kind)
}

func loadInto[V any](into map[string]*V, id string, text json.RawMessage) error {
	v := new(V)
	into[id] = v
	return json.Unmarshal(text, v)
}

// Changes returns what is to be stored since the last call: key → value, nil to
// delete. The values must be encoded before the machine is used again.
func (m *Machine) Changes() map[string]any {
	c := m.changes
	m.changes = map[string]any{}
	return c
}

// Events returns what happened since the last call.
func (m *Machine) Events() []Event {
	e := m.events
	m.events = nil
	return e
}

// Effects returns what is to be done since the last call, once the changes are
// stored.
func (m *Machine) Effects() []Effect {
	e := m.effects
	m.effects = nil
	return e
}

// FrameworkID returns the id that this installation goes by, for ever.
func (m *Machine) FrameworkID() string {
	if m.meta.FrameworkID == "" {
		m.meta.FrameworkID = m.cfg.NewID() + "-0000"
		m.changes["meta:"] = m.meta
	}
	return m.meta.FrameworkID
}

const timestamp = "2006-01-02T15:04:05.000Z"

// Timestamp writes a time as Marathon does.
func Timestamp(t time.Time) string { return t.UTC().Format(timestamp) }

// newVersion returns a version that is later than any before.
func (m *Machine) newVersion(now time.Time) string {
	v := Timestamp(now)
	if v <= m.meta.LastVersion {
		last, err := time.Parse(timestamp, m.meta.LastVersion)
		if err != nil {
			panic(err) // Timestamp wrote it
		}
		v = Timestamp(last.Add(time.Millisecond))
	}
	m.meta.LastVersion = v
	m.changes["meta:"] = m.meta
	return v
}

func (m *Machine) addTask(t *Task) {
	if m.tasks[t.AppID] == nil {
		m.tasks[t.AppID] = map[string]*Task{}
	}
	m.tasks[t.AppID][t.ID] = t
	m.byID[t.ID] = t
}

func (m *Machine) dropTask(t *Task) {
	delete(m.tasks[t.AppID], t.ID)
	if len(m.tasks[t.AppID]) == 0 {
		delete(m.tasks, t.AppID)
	}
	delete(m.byID, t.ID)
	m.changes["task:"+t.ID] = nil
	m.freed = true
	m.dirty[t.AppID] = true
}

// save notes that a task must be stored.
func (m *Machine) save(t *Task) {
	m.changes["task:"+t.ID] = t
	m.dirty[t.AppID] = true
}

// putApp stores the current definition of an app and its history.
func (m *Machine) putApp(a *definition.App) {
	m.apps[a.ID] = a
	m.changes["app:"+a.ID] = a
	list := m.versions[a.ID]
	if len(list) == 0 || list[len(list)-1].Version < a.Version {
		list = append(list, a)
		m.changes["version:"+a.ID+"@"+a.Version] = a
	}
	for keep := max(m.cfg.VersionsPerObject, 1); len(list) > keep; list = list[1:] {
		m.changes["version:"+a.ID+"@"+list[0].Version] = nil
	}
	m.versions[a.ID] = list
	m.addGroups(path.Dir(a.ID))
}

// addGroups makes the group id and those above it.
func (m *Machine) addGroups(id string) {
	for ; id != "/"; id = path.Dir(id) {
		if _, ok := m.groups[id]; !ok {
			m.putGroup(id, nil)
		}
	}
}

func (m *Machine) putGroup(id string, dependencies []string) {
	m.groups[id] = append([]string{}, dependencies...)
	m.changes["group:"+id] = m.groups[id]
}

func (m *Machine) removeApp(id string) {
	delete(m.apps, id)
	m.changes["app:"+id] = nil
	for _, v := range m.versions[id] {
		m.changes["version:"+id+"@"+v.Version] = nil
	}
	delete(m.versions, id)
	m.resetDelay(id)
	delete(m.queue, id)
}

// appTasks returns an app's tasks, oldest first.
func (m *Machine) appTasks(id string) []*Task {
	list := slices.Collect(maps.Values(m.tasks[id]))
	slices.SortFunc(list, func(a, b *Task) int {
		if c := a.StagedAt.Compare(b.StagedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// An Error is an answer to a client that asked for what cannot be done.
type Error struct {
	Status int
	Body   map[string]any
}

func (e *Error) Error() string { return fmt.Sprint(e.Body["message"]) }

// Refuse makes an Error with a message.
func Refuse(status int, format string, args ...any) *Error {
	return &Error{status, map[string]any{"message": fmt.Sprintf(format, args...)}}
}
