// Package definition holds Marathon's app definition: its canonical form (that
// of Marathon 1.5 and later), the reading of whatever dialect a client sends,
// and the checks. It is pure.
package definition

import (
	"encoding/json"
	"slices"
	"strings"
)

// An App is one app definition in canonical form. Only keys that clients of
// every age know are written; what is unset is left out.
type App struct {
	ID                         string              `json:"id"`
	Cmd                        *string             `json:"cmd,omitempty"`
	Args                       []string            `json:"args,omitempty"`
	User                       string              `json:"user,omitempty"`
	Env                        map[string]string   `json:"env,omitempty"`
	Instances                  int                 `json:"instances"`
	CPUs                       float64             `json:"cpus"`
	Mem                        float64             `json:"mem"`
	Disk                       float64             `json:"disk"`
	GPUs                       int                 `json:"gpus"`
	Executor                   string              `json:"executor"`
	Constraints                [][]string          `json:"constraints,omitempty"`
	Fetch                      []Fetch             `json:"fetch,omitempty"`
	BackoffSeconds             float64             `json:"backoffSeconds"`
	BackoffFactor              float64             `json:"backoffFactor"`
	MaxLaunchDelaySeconds      float64             `json:"maxLaunchDelaySeconds"`
	Container                  *Container          `json:"container,omitempty"`
	HealthChecks               []HealthCheck       `json:"healthChecks,omitempty"`
	ReadinessChecks            []ReadinessCheck    `json:"readinessChecks,omitempty"`
	Dependencies               []string            `json:"dependencies,omitempty"`
	UpgradeStrategy            UpgradeStrategy     `json:"upgradeStrategy"`
	Labels                     map[string]string   `json:"labels"`
	AcceptedResourceRoles      []string            `json:"acceptedResourceRoles,omitempty"`
	Networks                   []Network           `json:"networks"`
	PortDefinitions            *[]PortDefinition   `json:"portDefinitions,omitempty"` // nil unless host networking
	RequirePorts               bool                `json:"requirePorts"`
	TaskKillGracePeriodSeconds *float64            `json:"taskKillGracePeriodSeconds,omitempty"`
	KillSelection              string              `json:"killSelection"`
	UnreachableStrategy        UnreachableStrategy `json:"unreachableStrategy"`
	Role                       string              `json:"role,omitempty"`
	TTY                        *bool               `json:"tty,omitempty"`
	Version                    string              `json:"version,omitempty"`
	VersionInfo                *VersionInfo        `json:"versionInfo,omitempty"`
}

// A VersionInfo says when the parts of a definition changed last.
type VersionInfo struct {
	LastScalingAt      string `json:"lastScalingAt"`
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
}

// A Fetch is a file that is put into the sandbox before the task starts.
type Fetch struct {
	URI        string `json:"uri"`
	Extract    bool   `json:"extract"`
	Executable bool   `json:"executable"`
	Cache      bool   `json:"cache"`
	DestPath   string `json:"destPath,omitempty"`
}

// A Container says in what a task runs.
type Container struct {
	Type         string         `json:"type"` // DOCKER or MESOS
	Docker       *Docker        `json:"docker,omitempty"`
	Volumes      []Volume       `json:"volumes"`
	PortMappings *[]PortMapping `json:"portMappings,omitempty"` // nil with host networking
}

// A Docker names the image and how it is run.
type Docker struct {
	Image          string      `json:"image"`
	ForcePullImage bool        `json:"forcePullImage"`
	Privileged     bool        `json:"privileged"`
	Parameters     []Parameter `json:"parameters"`
}

// A Parameter is an option of "docker run", without its dashes.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A Volume is a directory of the host in the container.
type Volume struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath"`
	Mode          string `json:"mode"` // RO or RW
}

// A PortMapping publishes a port of the container.
type PortMapping struct {
	ContainerPort int               `json:"containerPort"`      // 0: the same as the host port
	HostPort      *int              `json:"hostPort,omitempty"` // 0: any; nil: none
	ServicePort   int               `json:"servicePort"`
	Protocol      string            `json:"protocol"` // tcp, udp, or "udp,tcp"
	Name          string            `json:"name,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// A PortDefinition is a port of a task on the host's network.
type PortDefinition struct {
	Port     int               `json:"port"`
	Protocol string            `json:"protocol"`
	Name     string            `json:"name,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// A Network is one network of the task.
type Network struct {
	Mode   string            `json:"mode"` // host, container/bridge, container
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// An UpgradeStrategy bounds a rolling replacement; both are fractions of the size.
type UpgradeStrategy struct {
	MaximumOverCapacity   float64 `json:"maximumOverCapacity"`
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity"`
}

// A HealthCheck says how to tell that a task is healthy.
type HealthCheck struct {
	Protocol               string   `json:"protocol"`
	Path                   string   `json:"path,omitempty"`
	PortIndex              *int     `json:"portIndex,omitempty"`
	Port                   *int     `json:"port,omitempty"`
	Command                *Command `json:"command,omitempty"`
	GracePeriodSeconds     int      `json:"gracePeriodSeconds"`
	IntervalSeconds        int      `json:"intervalSeconds"`
	TimeoutSeconds         int      `json:"timeoutSeconds"`
	MaxConsecutiveFailures int      `json:"maxConsecutiveFailures"`
	DelaySeconds           int      `json:"delaySeconds"`
	IgnoreHTTP1xx          *bool    `json:"ignoreHttp1xx,omitempty"` // HTTP and HTTPS only
	IPProtocol             string   `json:"ipProtocol,omitempty"`
}

// Mesos tells whether Mesos' executor runs the check: such a check kills at
// exactly MaxConsecutiveFailures, one of Marathon's own at one more.
func (h HealthCheck) Mesos() bool {
	return strings.HasPrefix(h.Protocol, "MESOS_") || h.Protocol == "COMMAND"
}

// A Command is what a COMMAND check runs.
type Command struct {
	Value string `json:"value"`
}

// A ReadinessCheck says when a deployment may count a new task.
type ReadinessCheck struct {
	Name                    string `json:"name"`
	Protocol                string `json:"protocol"` // HTTP or HTTPS
	Path                    string `json:"path"`
	PortName                string `json:"portName"`
	IntervalSeconds         int    `json:"intervalSeconds"`
	TimeoutSeconds          int    `json:"timeoutSeconds"`
	HTTPStatusCodesForReady []int  `json:"httpStatusCodesForReady"`
	PreserveLastResponse    bool   `json:"preserveLastResponse"`
}

// An UnreachableStrategy says what becomes of tasks on a lost agent. Its JSON is
// an object or "disabled".
type UnreachableStrategy struct {
	Disabled             bool
	InactiveAfterSeconds int
	ExpungeAfterSeconds  int
}

type unreachableJSON struct {
	InactiveAfterSeconds int `json:"inactiveAfterSeconds"`
	ExpungeAfterSeconds  int `json:"expungeAfterSeconds"`
}

// MarshalJSON writes Marathon's form.
func (u UnreachableStrategy) MarshalJSON() ([]byte, error) {
	if u.Disabled {
		return []byte(`"disabled"`), nil
	}
	return json.Marshal(unreachableJSON{u.InactiveAfterSeconds, u.ExpungeAfterSeconds})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (u *UnreachableStrategy) UnmarshalJSON(text []byte) error {
	if string(text) == `"disabled"` {
		*u = UnreachableStrategy{Disabled: true}
		return nil
	}
	var o unreachableJSON
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	*u = UnreachableStrategy{InactiveAfterSeconds: o.InactiveAfterSeconds, ExpungeAfterSeconds: o.ExpungeAfterSeconds}
	return nil
}

// Mode returns the mode of the app's networks.
func (a *App) Mode() string {
	if len(a.Networks) == 0 {
		return "host"
	}
	return a.Networks[0].Mode
}

// Image returns the Docker image, "" for an app that runs as a plain process.
func (a *App) Image() string {
	if a.Container == nil || a.Container.Docker == nil {
		return ""
	}
	return a.Container.Docker.Image
}

// Mappings returns the port mappings, none with host networking.
func (a *App) Mappings() []PortMapping {
	if a.Container == nil || a.Container.PortMappings == nil {
		return nil
	}
	return *a.Container.PortMappings
}

// Ports returns the port definitions, none but with host networking.
func (a *App) Ports() []PortDefinition {
	if a.PortDefinitions == nil {
		return nil
	}
	return *a.PortDefinitions
}

// ServicePorts returns the service ports, in the order of the definition.
func (a *App) ServicePorts() []int {
	ports := []int{}
	for _, m := range a.Mappings() {
		ports = append(ports, m.ServicePort)
	}
	for _, p := range a.Ports() {
		ports = append(ports, p.Port)
	}
	return ports
}

// PortName returns the name of port i, "" when it has none.
func (a *App) PortName(i int) string {
	if m := a.Mappings(); i < len(m) {
		return m[i].Name
	}
	if p := a.Ports(); i < len(p) {
		return p[i].Name
	}
	return ""
}

// NumPorts returns how many ports the definition has.
func (a *App) NumPorts() int { return len(a.Mappings()) + len(a.Ports()) }

// Clone returns a copy that shares nothing with a.
func (a *App) Clone() *App {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err) // App has no value that JSON lacks
	}
	b := new(App)
	if err := json.Unmarshal(text, b); err != nil {
		panic(err) // it reads what it writes
	}
	return b
}

// SameConfig tells whether two definitions differ at most in their size and
// version, so that tasks of the one are tasks of the other.
func SameConfig(a, b *App) bool {
	return string(configBytes(a)) == string(configBytes(b))
}

func configBytes(a *App) []byte {
	c := *a
	c.Instances, c.Version, c.VersionInfo = 0, "", nil
	text, err := json.Marshal(c) // map keys are sorted
	if err != nil {
		panic(err) // App has no value that JSON lacks
	}
	return text
}

// AssignPorts replaces each service port that is 0: first by one that the app's
// previous definition had in the range and the new one does not name, else by
// the lowest of the range that used does not have. It adds to used what it
// gives. It reports false when the range has no port left.
func (a *App) AssignPorts(previous *App, used map[int]bool, low, high int) bool {
	var slots []*int
	var named []int
	if a.Container != nil && a.Container.PortMappings != nil {
		for i := range *a.Container.PortMappings {
			slots = append(slots, &(*a.Container.PortMappings)[i].ServicePort)
		}
	}
	if a.PortDefinitions != nil {
		for i := range *a.PortDefinitions {
			slots = append(slots, &(*a.PortDefinitions)[i].Port)
		}
	}
	for _, s := range slots {
		if *s != 0 {
			named = append(named, *s)
		}
	}
	var again []int
	if previous != nil {
		for _, p := range previous.ServicePorts() {
			if p >= low && p <= high && !slices.Contains(named, p) {
				again = append(again, p)
			}
		}
	}
	next := low
	for _, s := range slots {
		if *s != 0 {
			continue
		}
		if len(again) > 0 {
			*s, again = again[0], again[1:]
			continue
		}
		for next <= high && used[next] {
			next++
		}
		if next > high {
			return false
		}
		*s, used[next] = next, true
	}
	return true
}
