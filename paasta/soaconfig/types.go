// Package soaconfig turns soa-configs, the YAML files that a team writes about
// its service, into checked Go values. Every mistake is a Problem with file,
// line and column; a broken entry or file never hides the sound ones beside
// it. It is the only user of yaml and jsonschema.
package soaconfig

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Class says what a problem does to what it is about.
type Class uint8

const (
	// Broken is what cannot run: nobody knows what is meant, or Marathon or
	// HAProxy would refuse it. What runs already stays as it is.
	Broken Class = iota
	// Wrong is a mistake that validate fails for and that stops nothing: the rest
	// of the file holds, and the key counts as absent unless the text says more.
	Wrong
	// Note is no mistake: a key that does nothing, or that PaaSTA reads otherwise.
	Note
)

var classes = [...]string{Broken: "broken", Wrong: "wrong", Note: "note"}

// String returns "broken", "wrong" or "note".
func (c Class) String() string { return classes[c] }

// MarshalText is String.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (c *Class) UnmarshalText(text []byte) error {
	i := slices.Index(classes[:], string(text))
	if i < 0 {
		return fmt.Errorf("%q is no class of problems (known: %s)", text, strings.Join(classes[:], ", "))
	}
	*c = Class(i)
	return nil
}

// A Problem is one mistake and its place.
type Problem struct {
	Class  Class  `json:"class"`
	File   string `json:"file"`           // path as the caller would open it
	Line   int    `json:"line,omitempty"` // 1-based; 0 when the file as a whole is meant
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"` // dotted path in the file
	Text   string `json:"text"`          // what is wrong, with a suggestion if there is one
}

// String returns "file:line:column: key: text".
func (p Problem) String() string { return p.line("") }

// ClassLine returns "file:line:column: class: key: text", which editors know from
// compilers.
func (p Problem) ClassLine() string { return p.line(": " + p.Class.String()) }

func (p Problem) line(class string) string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	s += class
	if p.Key != "" {
		s += ": " + p.Key
	}
	return strings.Map(visible, s+": "+p.Text)
}

// visible replaces control characters: a problem is one line, and what a file
// says must not move anybody's cursor.
func visible(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '\uFFFD'
	}
	return r
}

// Problems is every mistake of something, in file and line order. It is an
// error when not empty.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns p as an error, nil when there is none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Of returns those of a class.
func (p Problems) Of(c Class) Problems {
	var some Problems
	for _, problem := range p {
		if problem.Class == c {
			some = append(some, problem)
		}
	}
	return some
}

// Entries is what one file says: its valid entries, and for each invalid entry
// what breaks it. An entry with problems of the class Wrong is valid: they are in
// the service's Problems. When the file could not be read as YAML at all, or an
// entry has no name that one may have, Unreadable is set and nobody may conclude
// that an entry which is not there is gone.
type Entries[T any] struct {
	File       string // path, "" when there is no such file
	Valid      map[string]T
	Invalid    map[string]Problems
	Unreadable Problems
}

// Find returns the entry called name; found is false only when the file
// certainly does not have it. err is a Problems when it is there and broken, or
// the file is unreadable.
func (e Entries[T]) Find(name string) (value T, found bool, err error) {
	if v, ok := e.Valid[name]; ok {
		return v, true, nil
	}
	if p, ok := e.Invalid[name]; ok {
		return value, true, p
	}
	if len(e.Unreadable) > 0 {
		return value, true, e.Unreadable
	}
	return value, false, nil
}

// A Service is everything soa-configs say about one service.
type Service struct {
	Name string
	Dir  string

	GitURL         string // service.yaml git_url; "" if not given
	Description    string
	ExternalLink   string
	DockerRegistry string // "" means the system's
	EncryptionKey  string // of its secrets; default paasta

	Clusters   []string                     // that have a marathon-<cluster>.yaml, sorted
	Instances  map[string]Entries[Instance] // by cluster; marathon-<cluster>.yaml
	Adhoc      map[string]Entries[Instance] // by cluster; adhoc-<cluster>.yaml
	Namespaces Entries[Namespace]           // smartstack.yaml
	Deploy     Deploy                       // deploy.yaml
	Monitoring Monitoring                   // monitoring.yaml
	Deps       map[string][]Dependency      // dependencies.yaml
	TestDeps   Entries[TestDependency]      // test-dependencies.yaml
	Problems   Problems                     // the broken and the wrong, of all files
	Notes      Problems                     // of the class Note

	// Clashing are namespaces that are sound in themselves and broken only
	// because another one has their proxy_port too. Who serves the port must not
	// choose; who deploys need not care about what another team did.
	Clashing map[string]Namespace

	// Unreadable is set when the directory could not be listed: then nobody may
	// conclude that an instance or a namespace is gone, whatever the maps hold.
	Unreadable Problems

	ports      []portUse         // every proxy_port, also of broken namespaces
	adhocAt    map[string][2]int // line and column of "cluster/instance" in the adhoc files
	references []reference       // to what other services have
}

// An Instance is one entry of marathon-<cluster>.yaml, merged with its
// templates and the service's defaults, with every default filled in.
type Instance struct {
	Service, Cluster, Name string
	DeployGroup            string // expanded; default "<cluster>.<instance>"

	CPUs        float64
	CPUBurstAdd float64
	CFSPeriod   time.Duration
	MemMB       float64
	DiskMB      float64
	GPUs        *int

	Size           int // "instances"; what runs when MaxInstances is nil
	MinInstances   int
	MaxInstances   *int // not nil: autoscaled
	BackoffFactor  float64
	MaxLaunchDelay time.Duration
	Registrations  []string // "service.namespace", never empty; the first is primary
	Autoscaling    map[string]any

	BounceMethod        string // brutal, upthendown, crossover, downthenup
	BounceHealth        BounceHealth
	BounceMarginFactor  float64 // (0, 1]
	BounceStartDeadline time.Duration
	DrainMethod         string // "" = default: the registry's drain when in SmartStack, else noop; noop, hacheck, http
	DrainParams         DrainParams

	Constraints      [][]string // nil when not given: computed ones are used
	ExtraConstraints [][]string
	Pool             string
	DeployBlacklist  [][]string
	// AcceptedResourceRoles are nil when not given: Marathon's default.
	AcceptedResourceRoles []string
	DeployWhitelist       *Whitelist

	Cmd     *string // exclusive with Args
	Args    []string
	Env     map[string]string
	Volumes []Volume

	Net             string // bridge, host, or a Docker network
	ContainerPort   int
	HostPort        int
	HealthCheck     HealthCheck // Mode "" = from the namespace
	ExtraDockerArgs map[string]string
	Ulimits         map[string]Ulimit
	CapAdd          []string

	MonitoringTeam        string
	Monitoring            Monitoring
	MonitoringBlacklist   [][]string
	ReplicationThreshold  int
	DependenciesReference string
	OutboundFirewall      string // "", block, monitor
	MarathonShard         *int
	PreviousShards        []int

	// Written tells which keys the owner wrote (after templates and merges),
	// for the config hash and for "explain".
	Written map[string]bool
}

// BounceHealth says when a task counts as happy.
type BounceHealth struct {
	CheckHAProxy  *bool // nil: true if in SmartStack
	MinTaskUptime time.Duration
	MinFractionUp float64 // of the hosts asked; default 1
}

// DrainParams are drain_method_params.
type DrainParams struct {
	Delay       time.Duration // hacheck
	HacheckPort int
	Expiration  time.Duration
	Timeout     time.Duration       // longest drain; 0 = the system's drain_timeout
	HTTP        map[string]DrainURL // drain, stop_draining, is_draining, is_safe_to_kill
}

// A DrainURL is one request of the http drain method.
type DrainURL struct{ URLFormat, Method, SuccessCodes string }

// A Whitelist restricts placement to agents whose Attribute is one of Values.
type Whitelist struct {
	Attribute string
	Values    []string
}

// A Volume is a host path in a container.
type Volume struct{ HostPath, ContainerPath, Mode string }

// A Ulimit is a soft and an optional hard limit.
type Ulimit struct {
	Soft int64
	Hard *int64
}

// A HealthCheck is what Marathon checks.
type HealthCheck struct {
	Mode        string // "", http, https, tcp, cmd
	Cmd         string
	URI         string
	Grace       time.Duration // default 60s
	Interval    time.Duration // default 10s
	Timeout     time.Duration // default 10s
	MaxFailures int           // default 30
}

// A Namespace is one entry of smartstack.yaml.
type Namespace struct {
	Service, Name                                string
	ProxyPort                                    *int   // nil: no port on the hosts (absent, null: see InSmartstack)
	Registered                                   bool   // proxy_port is there, be it null: its tasks are registered
	Mode                                         string // http or tcp; "https" is written as tcp with HTTPS checks
	Balance                                      string // leastconn (default), roundrobin, …
	Keepalive                                    bool
	Retries                                      int
	AllRedisp                                    bool
	TimeoutConnect, TimeoutClient, TimeoutServer time.Duration
	TimeoutTunnel                                time.Duration            // of upgraded connections; 0: those of client and server
	EndpointTimeouts                             map[string]time.Duration // path prefix → server timeout

	HealthcheckMode       string // http, https, tcp, mysql or smtp; default as mode was written
	HealthcheckURI        string
	HealthcheckPort       *int
	HealthcheckTimeout    time.Duration
	HealthcheckBodyExpect string
	HealthcheckHeaders    map[string]string
	UpdownTimeout         time.Duration

	Advertise      []string // location types
	Discover       string
	ExtraAdvertise map[string][]string
	Routes         []Route

	ExtraHeaders      map[string]string
	ProxiedThrough    string
	IsProxy           bool
	FixedDelay        map[string]Delay            // "type:location" → delay
	Chaos             map[string]map[string]Chaos // location type → location → fault
	Cache             *Cache
	MetricsURI        string
	EndpointTemplates []string // path templates that metrics tell apart, e.g. /users/{id}
	Plugins           map[string]map[string]any
}

// A Route is the legacy form of extra_advertise.
type Route struct {
	Source       string
	Destinations []string
}

// A Delay is added to a share of the requests.
type Delay struct {
	Duration time.Duration
	Percent  float64
}

// Chaos is a fault for callers in one location.
type Chaos struct {
	Fail  string // "", drop or error_503
	Delay time.Duration
}

// Cache asks HAProxy to keep small responses.
type Cache struct {
	MaxAge      time.Duration
	MaxObjectKB int
	// WithCookies also keeps answers to requests with Cookie.
	WithCookies bool
}

// Deploy is deploy.yaml.
type Deploy struct {
	File            string // "" when absent
	Pipeline        []Step
	SlackChannels   []string
	SlackNotify     bool
	ProductionGroup string // production_deploy_group
}

// Groups returns the deploy groups of the pipeline, in order.
func (d Deploy) Groups() []string {
	var groups []string
	for _, s := range d.Pipeline {
		if s.IsGroup() {
			groups = append(groups, s.Name)
		}
	}
	return groups
}

// A Step is one step of a pipeline.
type Step struct {
	Name              string
	TriggerManually   bool
	WaitForDeployment bool // default true

	// Who is told in Slack; each defaults to SlackNotify.
	SlackNotify, NotifyAfterMark, NotifyAfterAbort, NotifyAfterGoodDeploy, NotifyAfterAutoRollback bool
}

// IsGroup tells deploy groups from the reserved steps.
func (s Step) IsGroup() bool {
	switch s.Name {
	case "itest", "itest-and-push-to-registry", "security-check", "performance-check", "push-to-registry":
		return false
	}
	return !strings.HasPrefix(s.Name, "command-")
}

// Monitoring is monitoring.yaml and its overrides.
type Monitoring struct {
	Team, Runbook, Tip, NotificationEmail string
	TeamUnknown                           bool // it is there and cannot be read: whoever forms an app keeps the last one
	Page, Ticket                          bool
	SlackChannels, IRCChannels            []string
	AlertAfter                            time.Duration // 0: the default of what is watched
	Other                                 map[string]any
}

// A Dependency is one line of dependencies.yaml.
type Dependency struct {
	WellKnown, Smartstack, CIDR string
	Port                        string // "", "443", "1024:65535"
}

// A TestDependency is one entry of test-dependencies.yaml: either another
// service of ours (Service) or an image (Image).
type TestDependency struct {
	Name string

	Service          string
	Instance         string
	DeployGroup      string
	Commit           string
	Build            string // path of a local checkout
	WithDependencies bool   // default true

	Image string
	Port  int
	Cmd   *string
	Args  []string
	Env   map[string]string
	Tmpfs []string          // "volumes": container paths
	Files map[string]string // fixture on the host → path in the container
	Ready Ready
}

// Ready says when a test dependency is up.
type Ready struct {
	HTTP    string // path
	TCP     bool
	Cmd     string
	Log     string        // regular expression
	Timeout time.Duration // default 60s
}
