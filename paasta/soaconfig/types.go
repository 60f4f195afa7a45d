// Package soaconfig turns soa-configs, the YAML files that a team writes about
// its service, into checked Go values. Every mistake is a Problem with file,
// line and column; a broken entry or file never hides the sound ones beside
// it. It is the only user of yaml and jsonschema.
package soaconfig

import (
	"time"
)

// A Service is everything soa-configs say about one service.
type Service struct {
	Name string
	Dir  string

	GitURL         string `soa:"git_url"` // service.yaml git_url; "" if not given
	Description    string `soa:"description"`
	ExternalLink   string `soa:"external_link"`
	DockerRegistry string `soa:"docker_registry"` // "" means the system's
	EncryptionKey  string `soa:"encryption_key"`  // of its secrets; default paasta

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

	ports      []portUse          // every proxy_port, also of broken namespaces
	adhocAt    map[string]Problem // "cluster/instance" of the adhoc files → what to say if it is a running one, too
	references []reference        // to what other services have
}

// An Instance is one entry of marathon-<cluster>.yaml, merged with its
// templates and the service's defaults, with every default filled in.
type Instance struct {
	Service, Cluster, Name string
	DeployGroup            string // expanded; default "<cluster>.<instance>"

	CPUs        float64       `soa:"cpus"`
	CPUBurstAdd float64       `soa:"cpu_burst_add"`
	CFSPeriod   time.Duration `soa:"cfs_period_us,us"`
	MemMB       float64       `soa:"mem"`
	DiskMB      float64       `soa:"disk"`
	GPUs        *int          `soa:"gpus"`

	Size           int            `soa:"instances"` // "instances"; what runs when MaxInstances is nil
	MinInstances   int            `soa:"min_instances"`
	MaxInstances   *int           `soa:"max_instances"` // not nil: autoscaled
	BackoffFactor  float64        `soa:"backoff_factor"`
	MaxLaunchDelay time.Duration  `soa:"max_launch_delay_seconds"`
	Registrations  []string       // "service.namespace", never empty; the first is primary
	Autoscaling    map[string]any `soa:"autoscaling"`

	BounceMethod        string        `soa:"bounce_method"` // brutal, upthendown, crossover, downthenup
	BounceHealth        BounceHealth  `soa:"bounce_health_params"`
	BounceMarginFactor  float64       `soa:"bounce_margin_factor"` // (0, 1]
	BounceStartDeadline time.Duration `soa:"bounce_start_deadline"`
	DrainMethod         string        `soa:"drain_method"` // "" = default: the registry's drain when in SmartStack, else noop; noop, hacheck, http
	DrainParams         DrainParams   `soa:"drain_method_params"`

	Constraints      [][]string `soa:"constraints"` // nil when not given: computed ones are used
	ExtraConstraints [][]string `soa:"extra_constraints"`
	Pool             string     `soa:"pool"`
	DeployBlacklist  [][]string `soa:"deploy_blacklist"`
	// AcceptedResourceRoles are nil when not given: Marathon's default.
	AcceptedResourceRoles []string `soa:"accepted_resource_roles"`
	DeployWhitelist       *Whitelist

	Cmd     *string           `soa:"cmd"` // exclusive with Args
	Args    []string          `soa:"args"`
	Env     map[string]string `soa:"env"`
	Volumes []Volume          `soa:"extra_volumes"`

	Net             string            `soa:"net"` // bridge, host, or a Docker network
	ContainerPort   int               `soa:"container_port"`
	HostPort        int               `soa:"host_port"`
	HealthCheck     HealthCheck       `soa:",inline"` // Mode "" = from the namespace
	ExtraDockerArgs map[string]string `soa:"extra_docker_args"`
	Ulimits         map[string]Ulimit `soa:"ulimit"`
	CapAdd          []string          `soa:"cap_add"`

	MonitoringTeam        string
	Monitoring            Monitoring
	MonitoringBlacklist   [][]string `soa:"monitoring_blacklist"`
	ReplicationThreshold  int        `soa:"replication_threshold"`
	DependenciesReference string     `soa:"dependencies_reference"`
	OutboundFirewall      string     // "", block, monitor

	// Written tells which keys the owner wrote (after templates and merges),
	// for the config hash and for "explain".
	Written map[string]bool
}

// BounceHealth says when a task counts as happy.
type BounceHealth struct {
	CheckHAProxy  *bool         `soa:"check_haproxy"` // nil: true if in SmartStack
	MinTaskUptime time.Duration `soa:"min_task_uptime"`
	MinFractionUp float64       `soa:"haproxy_min_fraction_up"` // of the hosts asked; default 1
}

// DrainParams are drain_method_params.
type DrainParams struct {
	Delay       time.Duration       `soa:"delay"` // hacheck
	HacheckPort int                 `soa:"hacheck_port"`
	Expiration  time.Duration       `soa:"expiration"`
	Timeout     time.Duration       `soa:"timeout"` // longest drain; 0 = the system's drain_timeout
	HTTP        map[string]DrainURL // drain, stop_draining, is_draining, is_safe_to_kill
}

// A DrainURL is one request of the http drain method.
type DrainURL struct {
	URLFormat    string `soa:"url_format"`
	Method       string `soa:"method"`
	SuccessCodes string `soa:"success_codes"`
}

// A Whitelist restricts placement to agents whose Attribute is one of Values.
type Whitelist struct {
	Attribute string
	Values    []string
}

// A Volume is a host path in a container.
type Volume struct {
	HostPath      string `soa:"hostPath"`
	ContainerPath string `soa:"containerPath"`
	Mode          string `soa:"mode"`
}

// A Ulimit is a soft and an optional hard limit.
type Ulimit struct {
	Soft int64  `soa:"soft"`
	Hard *int64 `soa:"hard"`
}

// A HealthCheck is what Marathon checks.
type HealthCheck struct {
	Mode        string        `soa:"healthcheck_mode"` // "", http, https, tcp, cmd
	Cmd         string        `soa:"healthcheck_cmd"`
	URI         string        `soa:"healthcheck_uri"`
	Grace       time.Duration `soa:"healthcheck_grace_period_seconds"`     // default 60s
	Interval    time.Duration `soa:"healthcheck_interval_seconds"`         // default 10s
	Timeout     time.Duration `soa:"healthcheck_timeout_seconds"`          // default 10s
	MaxFailures int           `soa:"healthcheck_max_consecutive_failures"` // default 30
}

// A Namespace is one entry of smartstack.yaml.
type Namespace struct {
	Service, Name    string
	ProxyPort        *int                     // nil: no port on the hosts (absent, null: see InSmartstack)
	Registered       bool                     // proxy_port is there, be it null: its tasks are registered
	Mode             string                   `soa:"mode"`    // http or tcp; "https" is written as tcp with HTTPS checks
	Balance          string                   `soa:"balance"` // leastconn (default), roundrobin, …
	Keepalive        bool                     `soa:"keepalive"`
	Retries          int                      `soa:"retries"`
	TimeoutConnect   time.Duration            `soa:"timeout_connect_ms,ms"`
	TimeoutClient    time.Duration            `soa:"timeout_client_ms,ms"`
	TimeoutServer    time.Duration            `soa:"timeout_server_ms,ms"`
	TimeoutTunnel    time.Duration            `soa:"timeout_tunnel_ms,ms"` // of upgraded connections; 0: those of client and server
	EndpointTimeouts map[string]time.Duration `soa:"endpoint_timeouts,ms"` // path prefix → server timeout

	HealthcheckMode       string `soa:"healthcheck_mode"` // http, https, tcp, mysql or smtp; default as mode was written
	HealthcheckURI        string `soa:"healthcheck_uri"`
	HealthcheckPort       *int   `soa:"healthcheck_port"`
	HealthcheckTimeout    time.Duration
	HealthcheckBodyExpect string            `soa:"healthcheck_body_expect"`
	HealthcheckHeaders    map[string]string `soa:"extra_healthcheck_headers"`
	UpdownTimeout         time.Duration     `soa:"updown_timeout_s"`

	Advertise      []string            `soa:"advertise"` // location types
	Discover       string              `soa:"discover"`
	ExtraAdvertise map[string][]string `soa:"extra_advertise"`
	Routes         []Route             `soa:"routes"`

	ExtraHeaders      map[string]string           `soa:"extra_headers"`
	ProxiedThrough    string                      `soa:"proxied_through"`
	IsProxy           bool                        `soa:"is_proxy"`
	FixedDelay        map[string]Delay            `soa:"fixed_delay"` // "type:location" → delay
	Chaos             map[string]map[string]Chaos `soa:"chaos"`       // location type → location → fault
	Cache             *Cache                      `soa:"cache"`
	MetricsURI        string                      `soa:"metrics_uri"`
	EndpointTemplates []string                    `soa:"endpoint_templates"` // path templates that metrics tell apart, e.g. /users/{id}
}

// A Route is the legacy form of extra_advertise.
type Route struct {
	Source       string   `soa:"source"`
	Destinations []string `soa:"destinations"`
}

// A Delay is added to a share of the requests.
type Delay struct {
	Duration time.Duration `soa:"duration_ms,ms"`
	Percent  float64       `soa:"percent"`
}

// Chaos is a fault for callers in one location.
type Chaos struct {
	Fail  string        `soa:"fail"` // "", drop or error_503
	Delay time.Duration `soa:"delay,haproxy"`
}

func (d *Delay) setDefaults() { d.Percent = 100 }

// Cache asks HAProxy to keep small responses.
type Cache struct {
	MaxAge      time.Duration `soa:"max_age_s"`
	MaxObjectKB int           `soa:"max_object_kb"`
	// WithCookies also keeps answers to requests with Cookie.
	WithCookies bool `soa:"with_cookies"`
}

func (c *Cache) setDefaults() { c.MaxAge, c.MaxObjectKB = time.Minute, 64 }
