package paasta

import "time"

// AgentMetrics is the answer of an agent to GET /v1/metrics?service=S&window=5m:
// the requests that went through its HAProxy, so those of callers on its host.
type AgentMetrics struct {
	Host    string    `json:"host"`
	Service string    `json:"service"`
	At      time.Time `json:"at"`
	// Seconds is how long the window really is: it begins with a whole minute, and
	// not before the agent.
	Seconds float64 `json:"seconds"`
	// Series are those where S is asked, and those where S asks.
	Series   []RequestSeries   `json:"series"`
	Calls    []Call            `json:"calls"`
	Versions []VersionRequests `json:"versions"`
	Tasks    []TaskMetrics     `json:"tasks,omitempty"`
	Log      AgentLog          `json:"log"`
}

// A RequestSeries counts the requests of the window that have all of this in
// common.
type RequestSeries struct {
	Registration string    `json:"registration"` // that was asked
	Server       string    `json:"server"`       // HAProxy's name of the backend; "none" when HAProxy answered itself
	Instance     string    `json:"instance,omitempty"`
	TaskID       string    `json:"task_id,omitempty"`
	Version      string    `json:"version,omitempty"` // git sha
	Endpoint     string    `json:"endpoint"`          // e.g. "GET /users/{id}", "tcp", "other"
	Caller       string    `json:"caller"`            // service.instance, "unknown", "other"
	Class        string    `json:"class"`             // 2xx, 4xx, …; none, ok, error
	Latency      Histogram `json:"latency"`
}

// IsErrorClass tells whether a class is the service's failure.
func IsErrorClass(class string) bool { return class == "5xx" || class == "error" }

// A Call says who has called which endpoint, for up to a week.
type Call struct {
	Registration string    `json:"registration"`
	Endpoint     string    `json:"endpoint"`
	Caller       string    `json:"caller"`
	Requests     uint64    `json:"requests"`
	Errors       uint64    `json:"errors"`
	First        time.Time `json:"first"`
	Last         time.Time `json:"last"`
}

// VersionRequests are the requests to one version of a registration, of the
// last one or two hours in which it got any.
type VersionRequests struct {
	Registration string            `json:"registration"`
	Version      string            `json:"version"` // git sha
	Since        time.Time         `json:"since"`   // its first request, since it was registered last
	Last         time.Time         `json:"last"`
	Gone         bool              `json:"gone,omitempty"` // it is not registered any more
	Endpoints    []VersionEndpoint `json:"endpoints"`
}

// A VersionEndpoint is what was asked of one endpoint of a version.
type VersionEndpoint struct {
	Endpoint string    `json:"endpoint"`
	Errors   uint64    `json:"errors"`
	Latency  Histogram `json:"latency"`
}

// TaskMetrics are what a task says of itself under its namespace's metrics_uri.
type TaskMetrics struct {
	Registration string    `json:"registration"`
	Server       string    `json:"server"`
	TaskID       string    `json:"task_id,omitempty"`
	At           time.Time `json:"at"`
	Error        string    `json:"error,omitempty"`
	// Timers and Counters are those with the most calls, by name.
	Timers   map[string]TaskTimer `json:"timers,omitempty"`
	Counters map[string]float64   `json:"counters,omitempty"`
	Gauges   map[string]float64   `json:"gauges,omitempty"`
}

// A TaskTimer is a timer of a task: a rate, and milliseconds.
type TaskTimer struct {
	Count float64 `json:"count"`
	Rate  float64 `json:"m1_rate"` // per second
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
}

// AgentLog says how well the agent hears HAProxy's log.
type AgentLog struct {
	Lines   int64 `json:"lines"`   // that were counted
	Foreign int64 `json:"foreign"` // that were no requests, or of no service of ours
	Dropped int64 `json:"dropped"` // that HAProxy could not send, since its latest start
	Queue   int   `json:"queue"`   // datagrams that the kernel keeps
}
