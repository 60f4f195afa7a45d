package marathon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// hashVersion is part of every HashInput. Raising it bounces every service, so
// it stays.
const hashVersion = 1

// A HashInput is what the config hash is made of: what the service's owner
// wrote and what really changes the container. Pointers are nil for what the
// owner did not write, so a new default of ours changes no hash; so does a new
// field here, as long as its zero value is omitted. What only scales an
// instance and what the system config says is not in it.
type HashInput struct {
	Version     int    `json:"version"`
	Image       string `json:"image"` // relative to the registry
	ForceBounce string `json:"force_bounce,omitempty"`
	// Refresh is the system hash when the app replaces one that is the same but
	// for system-wide values; "" otherwise.
	Refresh string `json:"refresh,omitempty"`

	Cmd  *string           `json:"cmd,omitempty"`
	Args []string          `json:"args,omitempty"`
	Env  map[string]string `json:"env,omitempty"`

	CPUs        *float64 `json:"cpus,omitempty"`
	CPUBurstAdd *float64 `json:"cpu_burst_add,omitempty"`
	CFSPeriodUS *int64   `json:"cfs_period_us,omitempty"`
	MemMB       *float64 `json:"mem,omitempty"`
	DiskMB      *float64 `json:"disk,omitempty"`
	GPUs        *int     `json:"gpus,omitempty"`

	Net           *string           `json:"net,omitempty"`
	ContainerPort *int              `json:"container_port,omitempty"`
	HostPort      *int              `json:"host_port,omitempty"`
	Volumes       []Volume          `json:"extra_volumes,omitempty"`
	Ulimits       map[string]string `json:"ulimit,omitempty"`
	CapAdd        []string          `json:"cap_add,omitempty"`
	DockerArgs    map[string]string `json:"extra_docker_args,omitempty"`

	HealthMode        string `json:"healthcheck_mode,omitempty"` // "" for none
	HealthURI         string `json:"healthcheck_uri,omitempty"`  // "" for /status
	HealthCmd         string `json:"healthcheck_cmd,omitempty"`
	HealthGraceMS     *int64 `json:"healthcheck_grace_ms,omitempty"`
	HealthIntervalMS  *int64 `json:"healthcheck_interval_ms,omitempty"`
	HealthTimeoutMS   *int64 `json:"healthcheck_timeout_ms,omitempty"`
	HealthMaxFailures *int   `json:"healthcheck_max_failures,omitempty"`

	Constraints      [][]string `json:"constraints,omitempty"`
	ExtraConstraints [][]string `json:"extra_constraints,omitempty"`
	Pool             *string    `json:"pool,omitempty"`
	Blacklist        [][]string `json:"deploy_blacklist,omitempty"`
	Whitelist        []string   `json:"deploy_whitelist,omitempty"` // attribute, then values

	Roles []string `json:"accepted_resource_roles,omitempty"`

	BackoffFactor    *float64 `json:"backoff_factor,omitempty"`
	MaxLaunchDelayMS *int64   `json:"max_launch_delay_ms,omitempty"`
}

// ConfigHash returns "config" and 8 hex digits.
func ConfigHash(in HashInput) string { return "config" + digest(in) }

// A SystemInput is what system-wide values make of an app. When it changes the
// app is stale: it is refreshed when its turn comes.
type SystemInput struct {
	Registry    string     `json:"registry,omitempty"`
	Dockercfg   string     `json:"dockercfg,omitempty"`
	Volumes     []Volume   `json:"volumes,omitempty"`
	Constraints [][]string `json:"constraints,omitempty"` // computed from agents and system lists
	Team        string     `json:"team,omitempty"`
	DeployGroup string     `json:"deploy_group,omitempty"`
}

// SystemHash returns 8 hex digits.
func SystemHash(in SystemInput) string { return digest(in) }

// digest hashes the canonical JSON of v: keys sorted, no white space, nothing
// escaped that need not be.
func digest(v any) string {
	text := canonical(v)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// canonical panics only if v cannot be JSON, which our own structs always are.
func canonical(v any) []byte {
	plain, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marathon: %T is not JSON: %v", v, err))
	}
	// Through a map, so that the order of a struct's fields means nothing.
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.UseNumber()
	var m map[string]any
	if err := decoder.Decode(&m); err != nil {
		panic(fmt.Sprintf("marathon: %T is no JSON object: %v", v, err))
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(m); err != nil {
		panic(fmt.Sprintf("marathon: encode %T again: %v", v, err))
	}
	return bytes.TrimSpace(out.Bytes())
}

// hashInput takes from an instance what belongs into its config hash.
func hashInput(i soaconfig.Instance, d Deployment, health soaconfig.HealthCheck) HashInput {
	in := HashInput{
		Version: hashVersion, Image: d.Image, ForceBounce: d.ForceBounce,
		Cmd: i.Cmd, Args: i.Args, Env: i.Env,
		CPUs:        written(i, "cpus", i.CPUs),
		CPUBurstAdd: written(i, "cpu_burst_add", i.CPUBurstAdd),
		CFSPeriodUS: written(i, "cfs_period_us", i.CFSPeriod.Microseconds()),
		MemMB:       written(i, "mem", i.MemMB),
		DiskMB:      written(i, "disk", i.DiskMB),
		GPUs:        i.GPUs,

		Net:           written(i, "net", i.Net),
		ContainerPort: written(i, "container_port", i.ContainerPort),
		HostPort:      written(i, "host_port", i.HostPort),
		Volumes:       volumes(nil, i.Volumes),
		CapAdd:        i.CapAdd,
		DockerArgs:    i.ExtraDockerArgs,

		HealthMode:        health.Mode,
		HealthCmd:         health.Cmd,
		HealthGraceMS:     written(i, "healthcheck_grace_period_seconds", i.HealthCheck.Grace.Milliseconds()),
		HealthIntervalMS:  written(i, "healthcheck_interval_seconds", i.HealthCheck.Interval.Milliseconds()),
		HealthTimeoutMS:   written(i, "healthcheck_timeout_seconds", i.HealthCheck.Timeout.Milliseconds()),
		HealthMaxFailures: written(i, "healthcheck_max_consecutive_failures", i.HealthCheck.MaxFailures),

		Constraints:      i.Constraints,
		ExtraConstraints: i.ExtraConstraints,
		Pool:             written(i, "pool", i.Pool),
		Blacklist:        i.DeployBlacklist,
		Roles:            i.AcceptedResourceRoles,

		BackoffFactor:    written(i, "backoff_factor", i.BackoffFactor),
		MaxLaunchDelayMS: written(i, "max_launch_delay_seconds", i.MaxLaunchDelay.Milliseconds()),
	}
	// The default of version 1; should the default change one day, this stays.
	if health.URI != "/status" {
		in.HealthURI = health.URI
	}
	if health.Mode == "" {
		in.HealthURI, in.HealthCmd = "", ""
	}
	for name, u := range i.Ulimits {
		if in.Ulimits == nil {
			in.Ulimits = map[string]string{}
		}
		in.Ulimits[name] = ulimit(u)
	}
	if w := i.DeployWhitelist; w != nil {
		in.Whitelist = append([]string{w.Attribute}, w.Values...)
	}
	return in
}

// written returns a pointer to v if the owner wrote key, nil otherwise.
func written[T any](i soaconfig.Instance, key string, v T) *T {
	if !i.Written[key] {
		return nil
	}
	return &v
}
