// Package marathon drives Marathon: its API, in go-marathon's types where these
// fit (docs/design/libraries.md), its event stream, and the app that an instance
// becomes, which is pure. It is the only user of go-marathon.
package marathon

import "time"

// An App is an app as we need it; what Marathon knows besides is not touched,
// since apps are never updated but for their size.
type App struct {
	ID           string // without the leading slash
	Size         int    // "instances"
	Labels       map[string]string
	Image        string
	Team         string    // monitoring team that it was formed with
	Created      time.Time // version
	HealthChecks int       // how many it defines
	Deployments  []string  // ids that touch it
	Tasks        []Task
	LastFailure  *Failure // of a task; nil when none has failed
}

// A Failure is how a task ended that was not asked to.
type Failure struct {
	Task, Host string
	State      string // TASK_FAILED, TASK_LOST, …
	Message    string
	ExitCode   *int // nil when it is not known
	Time       time.Time
}

// A Task is one task of an app.
type Task struct {
	ID        string
	AppID     string // without the leading slash
	Host      string
	IP        string // address to reach it at; Host when Marathon has none
	Ports     []int
	State     string // TASK_STAGING, TASK_RUNNING, …
	StagedAt  time.Time
	StartedAt time.Time // zero while it is not running
	// Alive counts results that are alive; Results counts all. No results is
	// unknown, never unhealthy.
	Alive, Results int
	// Failing is true when a result says so explicitly.
	Failing bool
	Cause   string    // why it does, in Marathon's words; "" when it does not say
	Version time.Time // of the app
}

// Running tells whether the task runs.
func (t Task) Running() bool { return t.State == "TASK_RUNNING" }

// A QueueItem says why an app's tasks do not start.
type QueueItem struct {
	AppID    string
	Missing  int
	Overdue  bool
	Delay    time.Duration  // back-off left
	Rejected map[string]int // reason → offers
}

// An Event is one of the event stream; only the fields we use.
type Event struct {
	Type   string // e.g. status_update_event
	AppID  string // without the leading slash, "" when it has none
	TaskID string
	State  string // taskStatus
	Alive  *bool
	Time   time.Time
}
