// Package sysconfig reads our own settings: every *.yaml and *.json file below
// $PAASTA_SYSTEM_CONFIG_DIR (default /etc/paasta), merged, with PAASTA_…
// variables over it. It is the only user of viper. What users write about
// their services is package soaconfig's.
package sysconfig

import "time"

// Config is the whole system config, checked and with defaults filled in.
// Unless a comment says otherwise, addresses are "host:port".
type Config struct {
	Cluster  string   // name of this cluster; required by daemons
	Clusters []string // all known clusters; default: [Cluster]
	SoaDir   string   `mapstructure:"soa_dir"` // default /nail/etc/services; also $PAASTA_SOA_DIR

	ZooKeeper      string `mapstructure:"zookeeper"`       // "h1:2181,h2:2181" or "zk://h1:2181,h2:2181"
	ZooKeeperAuth  string `mapstructure:"zookeeper_auth"`  // "user:password" for digest; nodes then carry ACLs
	DockerRegistry string `mapstructure:"docker_registry"` // host:port

	Volumes            []Volume            // given to every container
	DockercfgLocation  string              `mapstructure:"dockercfg_location"`        // URI of pull credentials; "" for none
	MarathonServers    []MarathonServer    `mapstructure:"marathon_servers"`          // deployd drives one
	MesosMasters       []string            `mapstructure:"mesos_masters"`             // URLs; none for paasta marathon
	ExpectedAgents     []map[string]string `mapstructure:"expected_agent_attributes"` // attributes of the agents that should exist
	DeployBlacklist    [][]string          `mapstructure:"deploy_blacklist"`          // [attribute, value]…
	DeployWhitelist    []any               `mapstructure:"deploy_whitelist"`          // [attribute, [value…]]
	HostnameUniqueSize int                 `mapstructure:"auto_hostname_unique_size"` // default -1: never

	APIEndpoints map[string]string `mapstructure:"api_endpoints"` // cluster → URL
	APIToken     string            `mapstructure:"api_token"`     // what the CLI sends as bearer token
	APICA        string            `mapstructure:"api_ca"`        // PEM file the CLI trusts besides the system's
	APICert      string            `mapstructure:"api_cert"`      // client certificate of the CLI, PEM files
	APIKey       string            `mapstructure:"api_key"`

	DashboardLinks       map[string]map[string][]string `mapstructure:"dashboard_links"`
	SecurityCheckCommand string                         `mapstructure:"security_check_command"`
	DefaultLocalCluster  string                         `mapstructure:"local_run_cluster"`

	// DrainGrace is the time that hosts get which read the registry with the
	// original synapse, and say nothing of it: between a drain and the end of the
	// task, and between a registration and the drain of another task. deployd waits
	// longer where agents took longer. Default 2s; 0 where no host runs synapse.
	DrainGrace time.Duration `mapstructure:"drain_grace"`

	Deployd         Deployd
	Smartstack      Smartstack
	API             API
	Location        map[string]string // of this host: location type → value, e.g. region: uswest1
	LocationTypes   []string          `mapstructure:"location_types"`   // broad to narrow; default ecosystem superregion region habitat
	LocationParents map[string]string `mapstructure:"location_parents"` // "habitat:x" → "region:y", for location maths
	Hostname        string            // default os.Hostname()
}

// A Volume is a host path in every container.
type Volume struct {
	HostPath      string `mapstructure:"hostPath"`
	ContainerPath string `mapstructure:"containerPath"`
	Mode          string // RO or RW
}

// A MarathonServer is one Marathon framework.
type MarathonServer struct {
	URL            []string // any of its members
	User, Password string
}

// Deployd is the settings of paasta deployd.
type Deployd struct {
	Listen        string        // status, /healthz, /metrics; default 127.0.0.1:5055
	Workers       int           // default 4
	Resync        time.Duration // default 1m
	GitPoll       time.Duration `mapstructure:"git_poll"`        // default 60s
	GitPollHooked time.Duration `mapstructure:"git_poll_hooked"` // default 10m
	Deployments   string        // "tags" (default) or "file": read deployments.json from the soa dir
	BigBounceRate int           `mapstructure:"big_bounce_rate"` // apps refreshed per minute after a system-wide change; default 6
	DrainTimeout  time.Duration `mapstructure:"drain_timeout"`   // default 60s
}

// API is the settings of paasta api.
type API struct {
	Listen   string // default 127.0.0.1:5054; other than loopback needs TLS and a token or client CA
	TLSCert  string `mapstructure:"tls_cert"` // PEM files
	TLSKey   string `mapstructure:"tls_key"`
	ClientCA string `mapstructure:"client_ca"`
	Tokens   []string
}

// Smartstack is the settings of paasta smartstack.
type Smartstack struct {
	StateDir      string        `mapstructure:"state_dir"` // default /var/lib/paasta/smartstack: cache, haproxy.cfg, sockets
	Listen        string        // /status, /healthz, /metrics, /v1; default 127.0.0.1:3213
	Announce      string        // URL under which masters reach Listen; default http://<Listen>
	StatsListen   string        `mapstructure:"stats_listen"`         // HAProxy's CSV page; default 127.0.0.1:3212
	BindAddresses []string      `mapstructure:"bind_addresses"`       // of frontends; default 169.254.255.254, 127.0.0.1
	SetupAddress  bool          `mapstructure:"setup_address"`        // put the link-local ones on lo; default true
	HAProxy       string        `mapstructure:"haproxy"`              // path or name of the binary; default haproxy
	ServicesDir   string        `mapstructure:"services_dir"`         // nerve half; default /etc/paasta/services.d
	SynapseDir    string        `mapstructure:"synapse_services_dir"` // JSON files for other tools; "" for none
	CustomConfig  string        `mapstructure:"custom_config"`        // file with an operator's own HAProxy sections
	MaxConn       int           `mapstructure:"maxconn"`              // global maxconn of HAProxy; default 8000
	CheckInterval time.Duration `mapstructure:"check_interval"`       // HAProxy's checks; default 10m
	CheckFast     time.Duration `mapstructure:"check_fastinter"`      // default 30s
	Reload        Reload
	Nerve         bool          // run the nerve half; default true
	Graphite      string        // host:port for plaintext metrics; "" for none
	LogSocket     bool          `mapstructure:"log_socket"`     // request metrics from HAProxy's log; default true
	RemovalFloor  float64       `mapstructure:"removal_floor"`  // share of a service's servers that one pass may remove within RemovalWindow; default 0.5
	RemovalWindow time.Duration `mapstructure:"removal_window"` // default 10s
}

// Reload says how HAProxy is reloaded.
type Reload struct {
	Protect     string        // auto (default), qdisc, nfqueue, none
	MinInterval time.Duration `mapstructure:"min_interval"` // between two reloads; default 1s
	Hold        time.Duration // longest time that SYNs are held; default 2s
	HardStop    time.Duration `mapstructure:"hard_stop_after"` // of old processes; default 10m
	Interfaces  []string      // bridges whose traffic to the bind addresses is held too
}
