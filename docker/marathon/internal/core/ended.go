package core

import (
	"slices"
	"time"
)

// An Ended says how a task has ended.
type Ended struct {
	ID       string    `json:"id"`
	AppID    string    `json:"app_id"`
	Host     string    `json:"host"`
	Service  string    `json:"service"` // with the instance and the commit: what its app's labels say
	Instance string    `json:"instance"`
	GitSHA   string    `json:"git_sha"`
	Version  string    `json:"version"` // of the app
	State    string    `json:"state"`   // e.g. TASK_FAILED
	Message  string    `json:"message"`
	ExitCode *int      `json:"exit_code"`        // nil when it is not known, or there was nothing to end
	Started  time.Time `json:"started,omitzero"` // when it was seen to run
	Ended    time.Time `json:"ended"`
	Process  bool      `json:"process"` // of this host, and no container
	Handle   string    `json:"handle"`
}

// noteEnd notes that a task has ended, and that its output is to be kept: one
// that was killed before it ran has none.
func (m *Machine) noteEnd(now time.Time, t *Task, s Status) {
	if t.State == Killed && t.StartedAt.IsZero() && s.Exit == nil {
		return
	}
	labels := t.App.Labels
	e := &Ended{
		ID: t.ID, AppID: t.AppID, Host: t.Host, Service: labels["paasta_service"], Instance: labels["paasta_instance"],
		GitSHA: labels["paasta_git_sha"], Version: t.Version, State: t.State, Message: s.Message, ExitCode: s.Exit,
		Started: t.StartedAt, Ended: now, Process: t.Process(), Handle: t.Handle,
	}
	m.ended[t.ID] = e
	m.changes["ended:"+t.ID] = e
}

// Unkept returns the tasks that have ended and whose output is still to be kept,
// oldest first.
func (m *Machine) Unkept() []Ended {
	var list []Ended
	for _, e := range m.ended {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Ended) int { return a.Ended.Compare(b.Ended) })
	return list
}

// Runner says where the output of a task is that runs, or that has ended and
// whose output is still to be kept.
func (m *Machine) Runner(id string) (process bool, handle string, ok bool) {
	if t := m.byID[id]; t != nil {
		return t.Process(), t.Handle, true
	}
	if e := m.ended[id]; e != nil {
		return e.Process, e.Handle, true
	}
	return false, "", false
}

// Kept says that the output of a task is kept, or never will be.
func (m *Machine) Kept(id string) {
	delete(m.ended, id)
	m.changes["ended:"+id] = nil
}

// Over tells whether nobody needs a task's container or process any more.
func (m *Machine) Over(id string) bool { return m.byID[id] == nil && m.ended[id] == nil }
