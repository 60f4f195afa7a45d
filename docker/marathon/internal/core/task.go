package core

import (
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// The states of a task, as Mesos names them.
const (
	Staging     = "TASK_STAGING"
	Starting    = "TASK_STARTING"
	Running     = "TASK_RUNNING"
	Killing     = "TASK_KILLING"
	Killed      = "TASK_KILLED"
	Finished    = "TASK_FINISHED"
	Failed      = "TASK_FAILED"
	Errored     = "TASK_ERROR"
	Gone        = "TASK_GONE"
	Unreachable = "TASK_UNREACHABLE"
)

// A Task is one instance of an app, from its placement to its end.
type Task struct {
	ID             string          `json:"id"`
	AppID          string          `json:"appId"`
	AgentID        string          `json:"agentId"`
	Host           string          `json:"host"`
	Address        string          `json:"address"`
	Ports          []int           `json:"ports"`   // host ports, without those of mappings that have none
	Slots          []int           `json:"slots"`   // host port of each declared port, 0 for none
	Version        string          `json:"version"` // of the app, when it was launched
	App            *definition.App `json:"app"`     // as it was launched
	State          string          `json:"state"`
	Before         string          `json:"before,omitempty"` // the state it had when it became unreachable
	Decommissioned bool            `json:"doomed,omitempty"` // its goal is to be killed
	KillReason     string          `json:"why,omitempty"`    // it was decommissioned, when that counts as a failure
	StagedAt       time.Time       `json:"stagedAt"`
	StartedAt      time.Time       `json:"startedAt"`        // zero until it runs
	KillAt         time.Time       `json:"killAt"`           // when the kill was asked for last
	IP             string          `json:"ip,omitempty"`     // of the container
	Handle         string          `json:"handle,omitempty"` // what the runner knows it by
	Ready          bool            `json:"ready"`            // its readiness check has passed

	launching bool // a runner works on it
	checks    []Check
	readiness *Readiness
}

// InstanceID returns the id that events and health results carry.
func (t *Task) InstanceID() string {
	i := strings.LastIndex(t.ID, ".")
	return t.ID[:i] + ".marathon-" + t.ID[i+1:]
}

// Process tells whether the task is a plain process of this host.
func (t *Task) Process() bool { return t.App.Image() == "" }

// taskID returns a new id for a task of an app.
func (m *Machine) taskID(appID string) string {
	return strings.ReplaceAll(strings.TrimPrefix(appID, "/"), "/", "_") + "." + m.cfg.NewID()
}

// AppOfTask returns the app id in a task's id, "" when it is no task's id.
func AppOfTask(id string) string {
	i := strings.LastIndex(id, ".")
	if i <= 0 || i == len(id)-1 {
		return ""
	}
	return "/" + strings.ReplaceAll(id[:i], "_", "/")
}

// An Effect is something for the shell to do. One field is set.
type Effect struct {
	Launch *Launch // start the task
	Kill   *Kill   // end it
	Watch  *Watch  // run its health checks
	Forget string  // id of a task that has ended: stop its checks
}

// A Launch is all that a runner needs to know.
type Launch struct {
	Task  Task // a copy
	Agent Agent
	Env   map[string]string
}

// A Kill asks a runner to end a task: SIGTERM, and SIGKILL after Grace.
type Kill struct {
	TaskID  string
	Handle  string
	Process bool
	Grace   time.Duration
}

// A Watch asks for the health and readiness checks of a running task.
type Watch struct {
	Task Task // a copy
}

// A Status is what a runner says of a task.
type Status struct {
	TaskID  string
	State   string // Staging, Starting, Running, Finished, Failed, Errored, Gone, Unreachable
	Message string
	IP      string
	Handle  string
	Exit    *int // exit status of what has ended; nil when it is not known
}

func terminal(state string) bool {
	return slices.Contains([]string{Finished, Failed, Killed, Errored, Gone}, state)
}

// upToDate tells whether a task runs the configuration of the definition.
func (t *Task) upToDate(a *definition.App) bool {
	return a.VersionInfo == nil || t.Version >= a.VersionInfo.LastConfigChangeAt
}

// HandleStatus takes in what a runner says.
func (m *Machine) HandleStatus(now time.Time, s Status) {
	t := m.byID[s.TaskID]
	if t == nil {
		if !terminal(s.State) && s.State != Unreachable {
			// Nobody wants it: it was forgotten while its runner was away.
			m.effects = append(m.effects, Effect{Kill: &Kill{
				TaskID: s.TaskID, Handle: s.Handle, Process: strings.HasPrefix(s.Handle, ProcessHandle), Grace: m.cfg.DefaultGrace,
			}})
		}
		return
	}
	m.status(now, t, s)
	m.reconcile(now)
}

// ProcessHandle is how handles of plain processes begin.
const ProcessHandle = "process:"

func (m *Machine) status(now time.Time, t *Task, s Status) {
	t.launching = false
	if s.IP != "" {
		t.IP = s.IP
	}
	if s.Handle != "" {
		t.Handle = s.Handle
	}
	switch {
	case terminal(s.State):
		m.end(now, t, s)
		return
	case s.State == Unreachable && !m.engineDown && t.StartedAt.IsZero():
		// The engine went and came back while the task was being started.
		if !t.Decommissioned {
			m.start(t)
		} else {
			m.kill(now, t)
		}
		return
	case s.State == Unreachable:
		if t.State == Unreachable {
			return
		}
		t.Before, t.State = t.State, Unreachable
	case t.Decommissioned:
		// It still runs although it should not; the kill is under way or is
		// asked for again.
		if t.State == Unreachable {
			t.State = Killing
			t.KillAt = time.Time{}
		}
		m.save(t)
		return
	case t.State == s.State:
		m.save(t)
		return
	default:
		t.Before, t.State = "", s.State
	}
	if t.State == Running {
		if t.StartedAt.IsZero() {
			t.StartedAt = now
		}
		m.effects = append(m.effects, Effect{Watch: &Watch{Task: *t}})
		if d := m.delays[t.AppID]; d != nil {
			d.Ref = now
			m.changes["delay:"+t.AppID] = d
		}
	}
	m.save(t)
	m.emitStatus(now, t, s.Message)
}

// end takes a task out of the state.
func (m *Machine) end(now time.Time, t *Task, s Status) {
	t.State = s.State
	if t.Decommissioned {
		t.State = Killed
	}
	if t.KillReason != "" {
		s.Message = t.KillReason
	}
	if !t.Decommissioned {
		m.backOff(now, t)
	}
	if t.KillReason != "" || !t.Decommissioned && s.State != Finished {
		f := &Failure{
			AppID: t.AppID, Host: t.Host, Message: s.Message, State: t.State, TaskID: t.ID,
			Timestamp: Timestamp(now), Version: t.Version, AgentID: t.AgentID,
		}
		if m.apps[t.AppID] != nil {
			m.failures[t.AppID] = f
			m.changes["failure:"+t.AppID] = f
		}
	}
	m.noteEnd(now, t, s)
	m.dropTask(t)
	m.effects = append(m.effects, Effect{Forget: t.ID})
	m.emitStatus(now, t, s.Message)
}

// A Failure is an app's lastTaskFailure.
type Failure struct {
	AppID     string `json:"appId"`
	Host      string `json:"host"`
	Message   string `json:"message"`
	State     string `json:"state"`
	TaskID    string `json:"taskId"`
	Timestamp string `json:"timestamp"`
	Version   string `json:"version"`
	AgentID   string `json:"slaveId"`
}

// decommission makes it a task's goal to be killed. why is set when that is a failure.
func (m *Machine) decommission(now time.Time, t *Task, why string) {
	if t.Decommissioned {
		return
	}
	t.Decommissioned, t.KillReason = true, why
	if t.State != Unreachable {
		t.State = Killing
	}
	m.kill(now, t)
	m.effects = append(m.effects, Effect{Forget: t.ID})
	m.save(t)
	if t.State == Killing {
		m.emitStatus(now, t, why)
	}
}

func (m *Machine) kill(now time.Time, t *Task) {
	t.KillAt = now
	m.effects = append(m.effects, Effect{Kill: &Kill{
		TaskID: t.ID, Handle: t.Handle, Process: t.Process(), Grace: m.grace(t.App),
	}})
}

func (m *Machine) grace(a *definition.App) time.Duration {
	if a.TaskKillGracePeriodSeconds != nil {
		return time.Duration(*a.TaskKillGracePeriodSeconds * float64(time.Second))
	}
	return m.cfg.DefaultGrace
}

// EngineDown says that the Docker Engine does not answer. What runs in it may
// run on: nothing is failed, and nothing is replaced.
func (m *Machine) EngineDown(now time.Time) {
	if m.engineDown {
		return
	}
	m.engineDown = true
	for _, t := range m.byID {
		if !t.Process() && !t.launching {
			m.status(now, t, Status{TaskID: t.ID, State: Unreachable, Message: "the Docker Engine does not answer"})
		}
	}
	m.reconcile(now)
}

// Recovered says what a runner found when it looked: at the start, and after an
// outage. process tells which runner it is. Tasks that it should have and does
// not are gone, or, if they were never known to run, are launched now.
func (m *Machine) Recovered(now time.Time, process bool, found []Status) {
	outage := !process && m.engineDown
	if !process {
		m.engineDown = false
	}
	seen := map[string]bool{}
	for _, s := range found {
		t := m.byID[s.TaskID]
		if outage && t != nil && t.StartedAt.IsZero() && !t.Decommissioned {
			// The engine died in the middle of its start: such a container may run
			// without its network. It is started anew.
			continue
		}
		seen[s.TaskID] = true
		if t == nil {
			m.HandleStatus(now, s)
		} else if !t.launching {
			m.status(now, t, s)
			if t.Decommissioned && m.byID[t.ID] != nil {
				m.kill(now, t)
			} else if t.State == Running {
				m.effects = append(m.effects, Effect{Watch: &Watch{Task: *t}})
			}
		}
	}
	for _, t := range m.byID {
		switch {
		case seen[t.ID] || t.launching || t.Process() != process:
		case t.StartedAt.IsZero() && !t.Decommissioned:
			t.State, t.Before = Staging, ""
			m.start(t)
		default:
			m.status(now, t, Status{State: Gone, Message: "its container or process is gone"})
		}
	}
	m.freed = true
	m.reconcile(now)
}

// KillTasks kills tasks by id. With scale, each app's size shrinks by as many
// and the deployment of that is returned; without, they are replaced. Unknown
// ids are skipped. The tasks returned are those that are killed.
func (m *Machine) KillTasks(now time.Time, by Request, ids []string, scale, force bool) ([]TaskView, *Deployment, error) {
	var views []TaskView
	var decommissioned []*Task
	sizes := map[string]int{}
	for _, id := range ids {
		t := m.byID[id]
		if t == nil || slices.Contains(decommissioned, t) {
			continue
		}
		views = append(views, m.viewTask(t))
		decommissioned = append(decommissioned, t)
		if a := m.apps[t.AppID]; a != nil && !t.Decommissioned {
			if _, ok := sizes[a.ID]; !ok {
				sizes[a.ID] = a.Instances
			}
			sizes[a.ID] = max(0, sizes[a.ID]-1)
		}
	}
	decommission := func() {
		for _, t := range decommissioned {
			m.decommission(now, t, "")
		}
	}
	if !scale {
		decommission()
		m.reconcile(now)
		return views, nil, nil
	}
	var c Change
	for id, size := range sizes {
		a := m.apps[id].Clone()
		a.Instances = size
		c.Put = append(c.Put, a)
	}
	// The tasks die before the deployment starts, so that it finds nothing more to kill.
	d, err := m.change(now, by, c, force, decommission)
	return views, d, err
}
