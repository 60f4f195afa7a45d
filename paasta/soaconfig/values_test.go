package soaconfig

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// loaded reads the service "web" of an archive that has no problems.
func loaded(t *testing.T, archive string) *Service {
	t.Helper()
	dir := unpack(t, txtar.Parse([]byte(archive)))
	tree, err := Load(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Problems.Err(); err != nil {
		t.Fatal(err)
	}
	return tree.Services["web"]
}

func TestEmptyInstance(t *testing.T) {
	got := loaded(t, "-- web/marathon-norcal.yaml --\nmain: {}\n").Instances["norcal"].Valid["main"]
	want := Instance{
		Service: "web", Cluster: "norcal", Name: "main", DeployGroup: "norcal.main",
		CPUs: 0.25, CPUBurstAdd: 1, CFSPeriod: 100 * time.Millisecond, MemMB: 1024, DiskMB: 1024,
		Size: 1, MinInstances: 1, BackoffFactor: 2, MaxLaunchDelay: 5 * time.Minute, Registrations: []string{"web.main"},
		BounceMethod: "crossover", BounceHealth: BounceHealth{MinFractionUp: 1}, BounceMarginFactor: 1,
		DrainParams: DrainParams{Delay: time.Minute, HacheckPort: 6666, Expiration: 10 * time.Minute},
		Pool:        "default", Env: map[string]string{}, Net: "bridge", ContainerPort: 8888,
		HealthCheck:          HealthCheck{Grace: time.Minute, Interval: 10 * time.Second, Timeout: 10 * time.Second, MaxFailures: 30},
		ReplicationThreshold: 50, DependenciesReference: "main", Written: map[string]bool{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFullInstance(t *testing.T) {
	got := loaded(t, `
-- web/service.yaml --
docker_registry: registry.example.com:5000
pool: from-service
team: from-service
env: {A: service, B: service}
-- web/monitoring.yaml --
team: from-monitoring
page: yes
alert_after: 2m
-- web/smartstack.yaml --
main: {}
-- web/dependencies.yaml --
main: []
out: [{cidr: 10.0.0.0/8, port: 443}, {cidr: "::/0", port: "1024:65535"}]
-- web/deploy.yaml --
pipeline: [{step: norcal-everything}]
-- web/marathon-norcal.yaml --
_template: &template
  cpus: 1
  env: &env {C: template, B: template}
  args: [template]
main:
  <<: *template
  cpu_burst_add: 0
  cfs_period_us: 50000
  mem: 100.5
  disk: 2048
  gpus: 0
  deploy_group: "{cluster}-everything"
  min_instances: 2
  max_instances: 4
  backoff_factor: 1
  max_launch_delay_seconds: 60
  registrations: [web.main]
  bounce_method: downthenup
  bounce_health_params: {min_task_uptime: 1.5, check_haproxy: no}
  bounce_margin_factor: .5
  bounce_start_deadline: 10
  drain_method: http
  drain_method_params:
    delay: 5
    timeout: 30
    drain: {url_format: "http://{host}:{port}/d", method: POST, success_codes: "200-399,500"}
    stop_draining: {url_format: "http://{host}/s"}
    is_draining: {url_format: "http://{host}/i"}
    is_safe_to_kill: {url_format: "http://{host}/k"}
  constraints: [[hostname, UNIQUE], [region, GROUP_BY, 2]]
  deploy_blacklist: [[region, uswest1]]
  deploy_whitelist: [habitat, [a, b]]
  args: [run, "--fast"]
  env:
    <<: *env
    SECRET_KEY: SECRET(key)
    MULTI: "a\nb"
  extra_volumes: [{hostPath: /a, containerPath: /b, mode: RW}]
  net: host
  host_port: 31000
  healthcheck_mode: cmd
  healthcheck_cmd: /bin/check
  healthcheck_grace_period_seconds: 0
  healthcheck_interval_seconds: 5
  ulimit: {nofile: {soft: 10, hard: 20}, core: {soft: -1}}
  cap_add: [IPC_LOCK]
  monitoring: {page: false, custom: 3}
  monitoring_blacklist: [[region, x]]
  replication_threshold: 0
  dependencies_reference: out
  security: {outbound_firewall: block}
  marathon_shard: 1
  previous_marathon_shards: [0, 2]
  autoscaling: {setpoint: .7, decision_policy: threshold, forecast_policy: current, offset: 1}
`)
	in := got.Instances["norcal"].Valid["main"]
	written := in.Written
	in.Written = nil
	want := Instance{
		Service: "web", Cluster: "norcal", Name: "main", DeployGroup: "norcal-everything",
		CPUs: 1, CPUBurstAdd: 0, CFSPeriod: 50 * time.Millisecond, MemMB: 100.5, DiskMB: 2048, GPUs: new(0),
		Size: 1, MinInstances: 2, MaxInstances: new(4), BackoffFactor: 1, MaxLaunchDelay: time.Minute, Registrations: []string{"web.main"},
		Autoscaling:  map[string]any{"setpoint": .7, "decision_policy": "threshold", "forecast_policy": "current", "offset": 1},
		BounceMethod: "downthenup", BounceHealth: BounceHealth{CheckHAProxy: new(false), MinTaskUptime: 1500 * time.Millisecond, MinFractionUp: 1},
		BounceMarginFactor: .5, BounceStartDeadline: 10 * time.Second,
		DrainMethod: "http",
		DrainParams: DrainParams{Delay: 5 * time.Second, HacheckPort: 6666, Expiration: time.Minute, Timeout: 30 * time.Second, HTTP: map[string]DrainURL{
			"drain":           {"http://{host}:{port}/d", "POST", "200-399,500"},
			"stop_draining":   {"http://{host}/s", "GET", "200"},
			"is_draining":     {"http://{host}/i", "GET", "200"},
			"is_safe_to_kill": {"http://{host}/k", "GET", "200"},
		}},
		Constraints: [][]string{{"hostname", "UNIQUE"}, {"region", "GROUP_BY", "2"}}, Pool: "from-service",
		DeployBlacklist: [][]string{{"region", "uswest1"}}, DeployWhitelist: &Whitelist{"habitat", []string{"a", "b"}},
		Args: []string{"run", "--fast"},
		// What the instance writes, merges included, goes over service.yaml, key by key.
		Env:     map[string]string{"A": "service", "B": "template", "C": "template", "SECRET_KEY": "SECRET(key)", "MULTI": "a\nb"},
		Volumes: []Volume{{"/a", "/b", "RW"}}, Net: "host", ContainerPort: 8888, HostPort: 31000,
		HealthCheck: HealthCheck{Mode: "cmd", Cmd: "/bin/check", Interval: 5 * time.Second, Timeout: 10 * time.Second, MaxFailures: 30},
		Ulimits:     map[string]Ulimit{"nofile": {10, new(int64(20))}, "core": {-1, nil}}, CapAdd: []string{"IPC_LOCK"},
		MonitoringTeam: "from-monitoring", Monitoring: Monitoring{Team: "from-monitoring", AlertAfter: 2 * time.Minute, Other: map[string]any{"custom": 3}},
		MonitoringBlacklist: [][]string{{"region", "x"}}, ReplicationThreshold: 0, DependenciesReference: "out",
		OutboundFirewall: "block",
	}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, key := range []string{"cpus", "pool", "env", "mem", "gpus"} {
		if !written[key] {
			t.Errorf("%s was written, and Written does not say so", key)
		}
	}
	if written["bounce_priority"] || written["docker_registry"] {
		t.Errorf("Written says too much: %v", written)
	}
	if got.DockerRegistry != "registry.example.com:5000" || !got.Monitoring.Page {
		t.Errorf("service: %+v", got)
	}
	if diff := cmp.Diff(map[string][]Dependency{"main": {}, "out": {{CIDR: "10.0.0.0/8", Port: "443"}, {CIDR: "::/0", Port: "1024:65535"}}}, got.Deps); diff != "" {
		t.Errorf("dependencies (-want +got):\n%s", diff)
	}
}

func TestNamespaces(t *testing.T) {
	got := loaded(t, `
-- web/smartstack.yaml --
empty: {}
nothing: {proxy_port: null}
never: {proxy_port: -1}
client: {proxy_port: 20001, timeout_client_ms: 5000}
tls: {proxy_port: 20002, mode: https, healthcheck_timeout_s: .5}
full:
  proxy_port: 20003
  balance: roundrobin
  keepalive: true
  retries: 3
  allredisp: true
  timeout_connect_ms: 100
  timeout_client_ms: 200
  timeout_server_ms: 300
  endpoint_timeouts: {/slow: 60000}
  timeout_tunnel_ms: 3600000
  healthcheck_mode: tcp
  healthcheck_uri: /health?deep=1
  healthcheck_port: 81
  healthcheck_body_expect: all fine
  extra_healthcheck_headers: {X-Check: "1"}
  updown_timeout_s: 10
  advertise: [superregion, region]
  discover: superregion
  extra_advertise: {"region:a": ["region:b", "superregion:c"]}
  extra_headers: {X-A: b c}
  proxied_through: web.tls
  is_proxy: true
  fixed_delay: {"region:a": {duration_ms: 50, percent: 10}, "region:b": {duration_ms: 1}}
  chaos: {region: {a: {fail: drop}, b: {delay: 2s}, c: {delay: 250}}}
  cache: {max_age_s: 5, with_cookies: true}
  metrics_uri: /metrics
  endpoint_templates: ["/users/{id}", "/"]
  plugins: {logging: {enabled: true, sample_rate: .5}}
`).Namespaces.Valid
	base := defaultNamespace
	base.Service, base.HealthcheckMode, base.Advertise = "web", "http", []string{"region"}
	want := map[string]Namespace{}
	for name, change := range map[string]func(*Namespace){
		"empty":   func(*Namespace) {},
		"never":   func(*Namespace) {},
		"nothing": func(ns *Namespace) { ns.Registered = true },
		"client": func(ns *Namespace) {
			ns.Registered, ns.ProxyPort = true, new(20001)
			ns.TimeoutClient, ns.TimeoutServer = 5*time.Second, 5*time.Second
		},
		"tls": func(ns *Namespace) {
			ns.Registered, ns.ProxyPort, ns.Mode, ns.HealthcheckMode = true, new(20002), "tcp", "https"
			ns.HealthcheckTimeout = 500 * time.Millisecond
		},
		"full": func(ns *Namespace) {
			*ns = Namespace{
				Service: "web", ProxyPort: new(20003), Registered: true, Mode: "http", Balance: "roundrobin", Keepalive: true,
				Retries: 3, TimeoutConnect: 100 * time.Millisecond, TimeoutClient: 200 * time.Millisecond, TimeoutServer: 300 * time.Millisecond, TimeoutTunnel: time.Hour,
				EndpointTimeouts: map[string]time.Duration{"/slow": time.Minute}, HealthcheckMode: "tcp", HealthcheckURI: "/health?deep=1",
				HealthcheckPort: new(81), HealthcheckTimeout: time.Second, HealthcheckBodyExpect: "all fine",
				HealthcheckHeaders: map[string]string{"X-Check": "1"}, UpdownTimeout: 10 * time.Second,
				Advertise: []string{"superregion", "region"}, Discover: "superregion",
				ExtraAdvertise: map[string][]string{"region:a": {"region:b", "superregion:c"}},
				ExtraHeaders:   map[string]string{"X-A": "b c"}, ProxiedThrough: "web.tls", IsProxy: true,
				FixedDelay: map[string]Delay{"region:a": {50 * time.Millisecond, 10}, "region:b": {time.Millisecond, 100}},
				Chaos:      map[string]map[string]Chaos{"region": {"a": {Fail: "drop"}, "b": {Delay: 2 * time.Second}, "c": {Delay: 250 * time.Millisecond}}},
				Cache:      &Cache{MaxAge: 5 * time.Second, MaxObjectKB: 64, WithCookies: true}, MetricsURI: "/metrics", EndpointTemplates: []string{"/users/{id}", "/"},
			}
		},
	} {
		ns := base
		change(&ns)
		ns.Name = name
		want[name] = ns
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDeployAndTestDependencies(t *testing.T) {
	s := loaded(t, `
-- web/deploy.yaml --
pipeline:
- step: itest
- step: command-lint
- step: dev.everything
  trigger_next_step_manually: true
  slack_notify: true
  notify_after_abort: false
- step: prod.main
  wait_for_deployment: false
slack_channels: ["#web"]
slack_notify: true
production_deploy_group: prod.main
-- web/adhoc-norcal.yaml --
interactive: {deploy_group: dev.everything}
batch: {deploy_group: prod.main, mem: 50, cmd: run}
-- web/test-dependencies.yaml --
users: {service: web, deploy_group: prod.main, with_dependencies: false}
db:
  image: postgres:16
  port: 5432
  env: {POSTGRES_PASSWORD: "x"}
  volumes: [/var/lib/postgresql]
  files: {fixtures/a.sql: /docker-entrypoint-initdb.d/a.sql}
  ready: {log: "ready to accept", timeout_s: 5}
`)
	wantDeploy := Deploy{
		File: s.Dir + "/deploy.yaml", SlackChannels: []string{"#web"}, SlackNotify: true, ProductionGroup: "prod.main",
		Pipeline: []Step{
			{Name: "itest", WaitForDeployment: true},
			{Name: "command-lint", WaitForDeployment: true},
			{Name: "dev.everything", TriggerManually: true, WaitForDeployment: true, SlackNotify: true, NotifyAfterMark: true, NotifyAfterGoodDeploy: true, NotifyAfterAutoRollback: true},
			{Name: "prod.main"},
		},
	}
	if diff := cmp.Diff(wantDeploy, s.Deploy); diff != "" {
		t.Errorf("deploy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"dev.everything", "prod.main"}, s.Deploy.Groups()); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	wantDeps := map[string]TestDependency{
		"users": {Name: "users", Service: "web", DeployGroup: "prod.main", Env: map[string]string{}, Ready: Ready{Timeout: time.Minute}},
		"db": {
			Name: "db", Image: "postgres:16", Port: 5432, WithDependencies: true, Env: map[string]string{"POSTGRES_PASSWORD": "x"},
			Tmpfs: []string{"/var/lib/postgresql"}, Files: map[string]string{"fixtures/a.sql": "/docker-entrypoint-initdb.d/a.sql"},
			Ready: Ready{Log: "ready to accept", Timeout: 5 * time.Second},
		},
	}
	if diff := cmp.Diff(wantDeps, s.TestDeps.Valid); diff != "" {
		t.Errorf("test dependencies (-want +got):\n%s", diff)
	}
	adhoc := s.Adhoc["norcal"].Valid
	if adhoc["interactive"].CPUs != 4 || adhoc["interactive"].MemMB != 10240 || adhoc["batch"].CPUs != .25 || adhoc["batch"].MemMB != 50 {
		t.Errorf("adhoc: %+v", adhoc)
	}
	if len(s.Clusters) != 0 {
		t.Errorf("adhoc files make no cluster: %v", s.Clusters)
	}
}
