// Package api is PaaSTA's HTTP API: its types, the handlers (paasta api), and
// the typed client that the CLI uses. openapi.yaml in this folder is the
// reference; a test holds it against the handlers.
package api

import (
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
)

// An InstanceStatus is the answer to GET /v1/services/{service}/{instance}/status.
type InstanceStatus struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Cluster  string `json:"cluster"`

	GitSHA       string  `json:"git_sha"` // desired; "" when not deployed yet, or unknown
	GitUnknown   bool    `json:"git_sha_unknown,omitempty"`
	DeployGroup  string  `json:"deploy_group"`
	DesiredState string  `json:"desired_state"` // start or stop
	AppID        string  `json:"app_id"`        // desired
	AppCount     int     `json:"app_count"`
	BounceMethod string  `json:"bounce_method"`
	MarginFactor float64 `json:"bounce_margin_factor"`
	Expected     int     `json:"expected"` // size
	Running      int     `json:"running"`  // over all apps
	Healthy      int     `json:"healthy"`
	// DeployStatus is one of Running, Deploying, Waiting, Delayed, Stopped,
	// NotRunning (the desired app does not exist), NotDeployed (nobody has marked a
	// commit for it, and nothing runs), or Unknown (Marathon did not
	// answer: see Notes).
	DeployStatus   string         `json:"deploy_status"`
	BackoffSeconds int            `json:"backoff_seconds,omitempty"`
	Rejected       map[string]int `json:"rejected_offers,omitempty"`

	Versions   []Version            `json:"versions"`
	Bounce     *paasta.BounceStatus `json:"bounce,omitempty"`     // nil when no deployd leads: see Notes
	Smartstack *SmartstackStatus    `json:"smartstack,omitempty"` // nil when not in SmartStack
	Notes      []string             `json:"notes,omitempty"`      // what could not be asked, and why

	// OK: runs what was asked for, fully up. The CLI exits 3 when false.
	OK bool `json:"ok"`
}

// A Version is one app of an instance.
type Version struct {
	AppID   string    `json:"app_id"`
	GitSHA  string    `json:"git_sha"` // 8 characters, or full where known
	Config  string    `json:"config_sha"`
	Desired bool      `json:"desired"`
	Size    int       `json:"size"`
	Created time.Time `json:"created"`
	Tasks   []Task    `json:"tasks"`
	// LastFailure is how the latest task that failed ended; nil when none has.
	LastFailure *Failure `json:"last_failure,omitempty"`
}

// A Failure is how a task ended that was not asked to.
type Failure struct {
	Task    string    `json:"task"`
	Host    string    `json:"host"`
	State   string    `json:"state"` // Mesos'
	Message string    `json:"message"`
	Time    time.Time `json:"time"`
	// ExitCode is nil when it is not known, or the task has none.
	ExitCode *int `json:"exit_code,omitempty"`
	// Output is the end of what it said: only of the latest failure of an instance
	// that is not OK.
	Output []string `json:"output,omitempty"`
}

// A Task is one task of a version.
type Task struct {
	ID      string    `json:"id"`
	Host    string    `json:"host"`
	Port    int       `json:"port"`
	State   string    `json:"state"`  // Mesos'
	Health  string    `json:"health"` // healthy, unhealthy, unknown, none
	Started time.Time `json:"started,omitzero"`
}

// SmartstackStatus says how the instance's primary registration is seen.
type SmartstackStatus struct {
	Registration string      `json:"registration"`
	ProxyPort    *int        `json:"proxy_port"`
	Expected     int         `json:"expected"`
	Hosts        []AgentView `json:"hosts"`  // up to 20, hosts with tasks first
	Agents       int         `json:"agents"` // how many hosts announce one
}

// An AgentView is what one host's HAProxy has.
type AgentView struct {
	Host       string                `json:"host"`
	Up         int                   `json:"up"`
	Elsewhere  int                   `json:"elsewhere,omitempty"`   // outside the location that its clients discover
	Error      string                `json:"error,omitempty"`       // why it was not heard
	StaleSince *time.Time            `json:"stale_since,omitempty"` // it has not heard from the registry since
	Backends   []paasta.AgentBackend `json:"backends,omitempty"`
}

// A Service is one of GET /v1/services.
type Service struct {
	Name      string   `json:"name"`
	Instances []string `json:"instances"` // of this cluster
}

// An Error is the body of every answer but 2xx.
type Error struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// A Kick is the answer to POST /v1/services/{service}/kick.
type Kick struct {
	Service string `json:"service"`
	// Pending: an earlier kick of this service was still waiting for deployd.
	Pending bool `json:"pending"`
}

// Deployments is the answer to GET /v1/services/{service}/deployments: what
// deployd concluded from the service's tags, for this cluster.
type Deployments struct {
	Service string `json:"service"`
	// Known is false while deployd has not read the tags yet.
	Known  bool                              `json:"known"`
	Groups map[string]deployments.Deployment `json:"groups"` // by deploy group
	// Controls tell, by instance of this cluster, what it should do.
	Controls map[string]deployments.Control `json:"controls"`
	// History tells, by deploy group, how its deploys went in this cluster, oldest
	// first.
	History map[string][]paasta.DeployRecord `json:"history"`
}

// Health is the answer to GET /healthz.
type Health struct {
	Status    string `json:"status"`    // ok, or what is missing
	Cluster   string `json:"cluster"`   // of this API
	ZooKeeper bool   `json:"zookeeper"` // whether there is a session now
	Services  int    `json:"services"`  // known from soa-configs
}
