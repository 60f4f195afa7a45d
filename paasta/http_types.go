package paasta

import "time"

// An AgentNode is the data of an agent's znode: where its status is, and for
// each registration up to which registry version (registry.Set.Version) its
// HAProxy has applied every change.
type AgentNode struct {
	Host    string           `json:"host"`   // system config hostname
	Status  string           `json:"status"` // base URL of the agent's HTTP, e.g. http://127.0.0.1:3213
	Addrs   []string         `json:"addrs"`  // addresses that are this host's, for "own host" questions
	Applied map[string]int64 `json:"applied"`
	// Location is where the host is: location type → value. Empty where nobody
	// said so, and then it discovers everything.
	Location map[string]string `json:"location,omitempty"`
}

// AgentBackends is the answer of an agent to GET /v1/backends/<registration>.
// With ?after=N&wait=5s it answers only once Generation is beyond N or the wait
// is over.
type AgentBackends struct {
	Registration string         `json:"registration"`
	Generation   int64          `json:"generation"`            // of this agent process, grows with every change of the answer
	Version      int64          `json:"version"`               // registry.Set.Version that is applied
	StaleSince   *time.Time     `json:"stale_since,omitempty"` // the registry has not answered since
	Backends     []AgentBackend `json:"backends"`
}

// An AgentBackend is one server in an agent's HAProxy.
type AgentBackend struct {
	Name   string `json:"name"` // HAProxy's server name
	Host   string `json:"host"`
	Port   int    `json:"port"`
	TaskID string `json:"task_id,omitempty"`
	Weight int    `json:"weight"`
	// Status is HAProxy's: UP, DOWN, MAINT, DRAIN, "no check", …; PROBING while
	// the agent's own first probe has not passed (it is not in HAProxy yet);
	// BackendElsewhere.
	Status string `json:"status"`
	// Up means: passed the agent's own probe, in HAProxy, and taking traffic.
	Up        bool      `json:"up"`
	LastCheck string    `json:"last_check,omitempty"` // e.g. "L7OK/200 in 3ms", or why the probe fails
	Since     time.Time `json:"since"`
	Sessions  int       `json:"sessions"`
}

// BackendElsewhere is the status of a backend outside the location that clients
// on this host discover: the agent neither probes it nor has it in HAProxy, and
// says nothing about how it is.
const BackendElsewhere = "ELSEWHERE"

// AgentConnections is the answer of an agent to
// GET /v1/connections?host=H&port=P: established TCP connections to a local
// task, from whomever.
type AgentConnections struct {
	Connections int `json:"connections"`
}

// A LeaderNode is the data of deployd's leader.
type LeaderNode struct {
	Host   string `json:"host"`
	Status string `json:"status"` // base URL of deployd's HTTP, e.g. http://10.0.0.1:5055
	// Process is its name, as package process gives it: a deployd on the same
	// host that sees that it is gone does not wait for its session to expire.
	Process string `json:"process,omitempty"`
}

// A BounceStatus is what deployd knows of an instance's bounce, its answer to
// GET /v1/instances/<service>/<instance>; without <instance> a list.
type BounceStatus struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Method   string `json:"method"`
	// State is one of steady, bouncing, waiting, failed, unknown, stopped. Unknown
	// is when something that had to be asked did not answer.
	State string `json:"state"`
	App   string `json:"app"` // that should run
	// Why says what the bounce waits for, or what failed; "" when steady.
	Why string `json:"why,omitempty"`
	// Steps are the latest steps, oldest first, as they were logged.
	Steps []BounceStep `json:"steps,omitempty"`
	Tasks []BounceTask `json:"tasks,omitempty"`
	// Stale means: a system-wide value changed; the app is refreshed when its
	// turn comes.
	Stale bool      `json:"stale,omitempty"`
	Since time.Time `json:"since"`
	Next  time.Time `json:"next,omitzero"` // when deployd looks again at the latest
}

// A DeployRecord is one commit that a deploy group was asked to run in a cluster,
// and how that went.
type DeployRecord struct {
	GitSHA string `json:"git_sha"`
	// Since is when deployd saw it first; zero when that is not known any more.
	Since time.Time `json:"since,omitzero"`
	// Deployed is when all instances of the group ran it for the first time; zero
	// while they never did.
	Deployed time.Time `json:"deployed,omitzero"`
	Ended    time.Time `json:"ended,omitzero"` // when another commit took its place
	Why      string    `json:"why,omitempty"`  // why it is not, or was never, deployed
}

// A BounceStep is one change that a bounce made.
type BounceStep struct {
	Time   time.Time `json:"time"`
	Op     string    `json:"op"`
	Target string    `json:"target"`
	Why    string    `json:"why"`
}

// A BounceTask is deployd's view of one task.
type BounceTask struct {
	ID    string `json:"id"`
	App   string `json:"app"`
	Host  string `json:"host"`
	Port  int    `json:"port"`
	State string `json:"state"`         // staging, running, healthy, happy, draining, unhealthy, killed
	Why   string `json:"why,omitempty"` // e.g. "not yet up in the HAProxy of host2"
}

// A LogLine is one line of the deploy log or of a task's output, in the shape
// of PaaSTA's log records.
type LogLine struct {
	Time      time.Time `json:"timestamp"`
	Component string    `json:"component"` // deploy, stdout, stderr, marathon, …
	Level     string    `json:"level"`     // event or debug
	Cluster   string    `json:"cluster"`
	Service   string    `json:"service"`
	Instance  string    `json:"instance"` // "N/A" for all
	Task      string    `json:"task,omitempty"`
	Message   string    `json:"message"`
}
