// Package localrun runs one instance of a service in a container on this
// machine, as Marathon and Mesos would run it on a cluster: the same command,
// environment, limits, volumes and health check. Deciding what that is (Form)
// is pure; Run does it.
package localrun

import (
	"crypto/sha1" //nolint:gosec // spreads ports, protects nothing
	"fmt"
	"maps"
	"math/big"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// A Request says what to run.
type Request struct {
	Instance  soaconfig.Instance
	Namespace *soaconfig.Namespace // of the primary registration; nil when there is none
	Team      string               // monitoring team; "" for none
	System    sysconfig.Config
	Image     string // as the engine knows it
	Deployed  string // what production would call the image; "" for Image
	SHA       string // commit of the image; "" when unknown
	User      string // who runs it
	ID        string // tells this run from others; letters, digits and dashes
	Host      string // this machine's name
	Port      int    // on this machine

	// Cmd replaces the instance's command; nil keeps it.
	Cmd *string
	// Shell asks for an interactive shell, unless Cmd says otherwise.
	Shell bool
	// Secrets holds the values of secrets, by name or by reference, e.g. "key" or
	// "SECRET(key)". Those that are not there are left out with SkipSecrets, and
	// are a MissingSecretsError without.
	Secrets     map[string]string
	SkipSecrets bool
	// Env is added over everything else, Hosts as names that the container knows.
	Env   map[string]string
	Hosts []string // NAME:ADDRESS
	// Network, when not "", is a network of the engine to be in instead of the
	// instance's; the port is published all the same.
	Network string
}

// A Spec is what is asked of the Docker Engine. Its JSON is what --json-dict
// prints; values of secrets are not in it.
type Spec struct {
	Name       string                `json:"name"`
	Image      string                `json:"image"`
	Entrypoint []string              `json:"entrypoint,omitempty"` // nil: the image's
	Cmd        []string              `json:"cmd,omitempty"`        // nil: the image's
	Env        map[string]string     `json:"env"`
	Labels     map[string]string     `json:"labels"`
	Network    string                `json:"network"` // bridge, host, none, …
	Publish    bool                  `json:"publish"` // the container's port becomes Port of this machine
	Port       int                   `json:"port"`    // on this machine
	Container  int                   `json:"container_port"`
	Memory     string                `json:"memory"`
	Options    []marathon.Parameter  `json:"options"` // of docker run
	Volumes    []marathon.Volume     `json:"volumes"`
	Hosts      []string              `json:"hosts,omitempty"`
	TTY        bool                  `json:"tty"`
	Left       []string              `json:"secrets_left_out,omitempty"`
	Check      *marathon.HealthCheck `json:"health_check,omitempty"` // as Marathon runs it; nil for none

	secret map[string]string // environment that is not shown
	memMB  float64
}

// The labels of containers of ours.
const (
	runLabel   = "paasta.localrun"       // the id of the run
	ownerLabel = "paasta.localrun.owner" // the process that looks after it
)

const sandbox = "/mnt/mesos/sandbox"

// Adhoc returns the instance that runs when none was named: a shell with more
// room than a service needs.
func Adhoc(service, cluster string) soaconfig.Instance {
	return soaconfig.Instance{
		Service: service, Cluster: cluster, Name: "interactive", DeployGroup: cluster + ".interactive",
		CPUs: 4, MemMB: 10240, DiskMB: 1024, Size: 1, Net: "bridge", ContainerPort: 8888,
		Registrations: []string{service + ".interactive"},
	}
}

// PreferredPort is the port that a person's runs of a service get when it is
// free: the same one each time, the one that PaaSTA chooses.
func PreferredPort(service, user string) int {
	sum := sha1.Sum([]byte(service + "," + user)) //nolint:gosec // as above
	n := new(big.Int).SetBytes(sum[:])
	return 33000 + int(n.Mod(n, big.NewInt(25000)).Int64())
}

// Form decides what to run. It is pure.
func Form(r Request) (Spec, error) {
	i := r.Instance
	system := r.System
	// Where a task would be placed is of no interest here, nor whether it could be.
	system.ExpectedAgents, system.DeployBlacklist, system.DeployWhitelist, system.HostnameUniqueSize = nil, nil, nil, -1
	system.DockercfgLocation = ""
	i.Constraints = [][]string{}
	deployed := r.Deployed
	if deployed == "" {
		deployed = r.Image
	}
	sha := r.SHA
	if sha == "" {
		sha = "unknown"
	}
	formed, err := marathon.BuildApp(marathon.AppInput{
		Instance: i, Namespace: r.Namespace, Team: r.Team, Size: 1, System: system,
		Deployment: marathon.Deployment{Image: deployed, GitSHA: sha},
	})
	if err != nil {
		return Spec{}, err
	}
	d := formed.Definition
	s := Spec{
		Name:  "paasta_local_run_" + name(r.User) + "_" + r.ID,
		Image: r.Image, Port: r.Port, TTY: r.Shell,
		Network: i.Net, Container: i.ContainerPort, Hosts: r.Hosts,
		Volumes: d.Container.Volumes, memMB: max(32, d.Mem),
		Labels: map[string]string{runLabel: r.ID},
	}
	s.Memory = strconv.FormatFloat(s.memMB, 'f', -1, 64) + "m"
	if s.Network == "" {
		s.Network = "bridge"
	}
	if r.Network != "" {
		s.Network = r.Network
	}
	s.Publish = s.Network == "bridge" || r.Network != ""
	s.Options = append(s.Options, d.Container.Docker.Parameters...)
	switch {
	case r.Cmd != nil:
		s.Entrypoint, s.Cmd = []string{"/bin/sh"}, []string{"-c", *r.Cmd}
	case r.Shell:
		s.Entrypoint, s.Cmd = []string{"/bin/sh"}, []string{"-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi"}
	case d.Cmd != nil:
		s.Entrypoint, s.Cmd = []string{"/bin/sh"}, []string{"-c", *d.Cmd}
	default:
		s.Cmd = d.Args
	}
	if len(d.HealthChecks) > 0 {
		s.Check = &d.HealthChecks[0]
	}
	if s.Network == "host" {
		s.Container = r.Port
	}
	return s, s.setEnv(r, d)
}

// name makes what a person is called fit for a container's name.
func name(user string) string {
	text := strings.Map(func(c rune) rune {
		if c < 0x80 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_.-", c)) {
			return c
		}
		return '-'
	}, user)
	if text == "" {
		return "unknown"
	}
	return text
}

// setEnv gives the container what Mesos and Marathon tell a task, and over it
// what the service's owner wrote.
func (s *Spec) setEnv(r Request, d marathon.Definition) error {
	port := strconv.Itoa(r.Port)
	container := strconv.Itoa(s.Container)
	s.Env = map[string]string{
		"HOST":                       r.Host,
		"MESOS_SANDBOX":              sandbox,
		"MESOS_CONTAINER_NAME":       "localrun-" + r.ID,
		"MESOS_TASK_ID":              r.ID,
		"MARATHON_HOST":              r.Host,
		"MARATHON_PORT":              port,
		"MARATHON_PORT0":             port,
		"MARATHON_PORTS":             port,
		"MARATHON_PORT_" + container: port,
		"MARATHON_APP_ID":            "/simulated_marathon_app_id",
		"MARATHON_APP_VERSION":       "simulated_marathon_app_version",
		"MARATHON_APP_DOCKER_IMAGE":  r.Image,
		"MARATHON_APP_LABELS":        "",
		"MARATHON_APP_RESOURCE_CPUS": number(d.CPUs),
		"MARATHON_APP_RESOURCE_MEM":  number(d.Mem),
		"MARATHON_APP_RESOURCE_DISK": number(d.Disk),
		"MARATHON_APP_RESOURCE_GPUS": "0",
		"PAASTA_LAUNCHED_BY":         r.User + "@" + r.Host,
	}
	if d.GPUs != nil {
		s.Env["MARATHON_APP_RESOURCE_GPUS"] = strconv.Itoa(*d.GPUs)
	}
	maps.Copy(s.Env, d.Env)
	maps.Copy(s.Env, r.Env)
	s.secret = map[string]string{}
	var missing []string
	for _, variable := range slices.Sorted(maps.Keys(s.Env)) {
		reference := s.Env[variable]
		secret, ok := secretName(reference)
		if !ok {
			continue
		}
		value, given := r.Secrets[reference]
		if !given {
			value, given = r.Secrets[secret]
		}
		switch {
		case given:
			s.secret[variable] = value
		case r.SkipSecrets:
			s.Left = append(s.Left, variable)
			delete(s.Env, variable)
		default:
			missing = append(missing, variable+"="+reference)
		}
	}
	if len(missing) > 0 {
		return &MissingSecretsError{missing}
	}
	return nil
}

// number writes a number as Marathon does: always with a fraction.
func number(f float64) string {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// secretName returns the name in "SECRET(name)" or "SHARED_SECRET(name)".
// soa-configs have checked its form.
func secretName(value string) (string, bool) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(value, "SHARED_"), "SECRET(")
	if !ok || !strings.HasSuffix(rest, ")") {
		return "", false
	}
	return strings.TrimSuffix(rest, ")"), true
}

// A MissingSecretsError says which variables hold secrets that nobody gave.
type MissingSecretsError struct {
	Variables []string // e.g. KEY=SECRET(key)
}

func (e *MissingSecretsError) Error() string {
	return fmt.Sprintf("no value for the secrets of %s", strings.Join(e.Variables, ", "))
}

// Command is the docker run that would do the same. Values of the environment
// are not in it, since others can read a process's arguments: docker takes
// them from its own environment.
func (s Spec) Command() []string {
	args := []string{"docker", "run"}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		args = append(args, "--env", name)
	}
	args = append(args, "--memory="+s.Memory)
	for _, p := range s.Options {
		args = append(args, "--"+p.Key+"="+p.Value)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		args = append(args, "--label="+key+"="+s.Labels[key])
	}
	if s.Publish {
		args = append(args, fmt.Sprintf("--publish=%d:%d", s.Port, s.Container))
	}
	if s.Network != "bridge" {
		args = append(args, "--net="+s.Network)
	}
	args = append(args, "--name="+s.Name)
	for _, v := range s.Volumes {
		args = append(args, "--volume="+v.HostPath+":"+mounted(v.ContainerPath)+":"+strings.ToLower(v.Mode))
	}
	for _, h := range s.Hosts {
		args = append(args, "--add-host="+h)
	}
	if s.TTY {
		args = append(args, "--interactive=true", "--tty=true")
	} else {
		args = append(args, "--detach=true")
	}
	if len(s.Entrypoint) > 0 {
		args = append(args, "--entrypoint="+s.Entrypoint[0])
	}
	return append(append(args, s.Image), s.Cmd...)
}

// mounted is where a volume is in the container: a relative path is below the
// sandbox.
func mounted(p string) string {
	if path.IsAbs(p) {
		return p
	}
	return path.Join(sandbox, p)
}
