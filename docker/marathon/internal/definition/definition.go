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
	ID                         string              `json:"id" required:"true"`
	Cmd                        *string             `json:"cmd,omitempty" pattern:"nonempty"`
	Args                       []string            `json:"args,omitempty"`
	User                       string              `json:"user,omitempty"`
	Env                        map[string]string   `json:"env,omitempty" refuse:"Feature secrets is not enabled: paasta marathon keeps no secrets"`
	Instances                  int                 `json:"instances" default:"1"`
	CPUs                       float64             `json:"cpus" default:"1" min:"0.001"`
	Mem                        float64             `json:"mem" default:"128"`
	Disk                       float64             `json:"disk"`
	GPUs                       int                 `json:"gpus"`
	Executor                   string              `json:"executor" pattern:"executor"`
	Constraints                [][]string          `json:"constraints,omitempty"`
	Fetch                      []Fetch             `json:"fetch,omitempty"`
	BackoffSeconds             float64             `json:"backoffSeconds" default:"1"`
	BackoffFactor              float64             `json:"backoffFactor" default:"1.15" min:"1"`
	MaxLaunchDelaySeconds      float64             `json:"maxLaunchDelaySeconds" default:"300"`
	Container                  *Container          `json:"container,omitempty"`
	HealthChecks               []HealthCheck       `json:"healthChecks,omitempty"`
	ReadinessChecks            []ReadinessCheck    `json:"readinessChecks,omitempty"`
	Dependencies               []string            `json:"dependencies,omitempty"`
	UpgradeStrategy            UpgradeStrategy     `json:"upgradeStrategy"`
	Labels                     map[string]string   `json:"labels" default:"{}"`
	AcceptedResourceRoles      []string            `json:"acceptedResourceRoles,omitempty"`
	Networks                   []Network           `json:"networks"`
	PortDefinitions            *[]PortDefinition   `json:"portDefinitions,omitempty"` // nil unless host networking
	RequirePorts               bool                `json:"requirePorts"`
	TaskKillGracePeriodSeconds *float64            `json:"taskKillGracePeriodSeconds,omitempty"`
	KillSelection              string              `json:"killSelection" default:"YOUNGEST_FIRST" enum:"YOUNGEST_FIRST|OLDEST_FIRST"`
	UnreachableStrategy        UnreachableStrategy `json:"unreachableStrategy"`
	Role                       string              `json:"role,omitempty"`
	TTY                        *bool               `json:"tty,omitempty"`
	Version                    string              `json:"version,omitempty" read:"-"`
	VersionInfo                *VersionInfo        `json:"versionInfo,omitempty" read:"-"`
}

// A VersionInfo says when the parts of a definition changed last.
type VersionInfo struct {
	LastScalingAt      string `json:"lastScalingAt"`
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
}

// A Fetch is a file that is put into the sandbox before the task starts.
type Fetch struct {
	URI        string `json:"uri" required:"true"`
	Extract    bool   `json:"extract" default:"true"`
	Executable bool   `json:"executable"`
	Cache      bool   `json:"cache"`
	DestPath   string `json:"destPath,omitempty"`
}

// A Container says in what a task runs.
type Container struct {
	Type         string         `json:"type" default:"DOCKER" enum:"DOCKER|MESOS"` // DOCKER or MESOS
	Docker       *Docker        `json:"docker,omitempty"`
	Volumes      []Volume       `json:"volumes" default:"[]"`
	PortMappings *[]PortMapping `json:"portMappings,omitempty"` // nil with host networking
}

// A Docker names the image and how it is run.
type Docker struct {
	Image          string      `json:"image" required:"true"`
	ForcePullImage bool        `json:"forcePullImage"`
	Privileged     bool        `json:"privileged"`
	Parameters     []Parameter `json:"parameters" default:"[]"`
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
	Mode          string `json:"mode" default:"RW" enum:"RO|RW"` // RO or RW
}

// A PortMapping publishes a port of the container.
type PortMapping struct {
	ContainerPort int               `json:"containerPort" max:"65535"`      // 0: the same as the host port
	HostPort      *int              `json:"hostPort,omitempty" max:"65535"` // 0: any; nil: none
	ServicePort   int               `json:"servicePort" max:"65535"`
	Protocol      string            `json:"protocol" default:"tcp" enum:"tcp|udp|udp,tcp|tcp,udp"` // tcp, udp, or "udp,tcp"
	Name          string            `json:"name,omitempty" pattern:"port"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// A PortDefinition is a port of a task on the host's network.
type PortDefinition struct {
	Port     int               `json:"port" max:"65535"`
	Protocol string            `json:"protocol" default:"tcp" enum:"tcp|udp|udp,tcp"`
	Name     string            `json:"name,omitempty" pattern:"port"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// A Network is one network of the task.
type Network struct {
	Mode   string            `json:"mode" default:"container" enum:"host|container/bridge|container"` // host, container/bridge, container
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// An UpgradeStrategy bounds a rolling replacement; both are fractions of the size.
type UpgradeStrategy struct {
	MaximumOverCapacity   float64 `json:"maximumOverCapacity" default:"1" min:"-Inf"`
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity" default:"1" min:"-Inf"`
}

// A HealthCheck says how to tell that a task is healthy.
type HealthCheck struct {
	Protocol               string   `json:"protocol" default:"HTTP" enum:"HTTP|HTTPS|TCP|COMMAND|MESOS_HTTP|MESOS_HTTPS|MESOS_TCP"`
	Path                   string   `json:"path,omitempty"`
	PortIndex              *int     `json:"portIndex,omitempty"`
	Port                   *int     `json:"port,omitempty" max:"65535"`
	Command                *Command `json:"command,omitempty"`
	GracePeriodSeconds     int      `json:"gracePeriodSeconds" default:"300"`
	IntervalSeconds        int      `json:"intervalSeconds" default:"60"`
	TimeoutSeconds         int      `json:"timeoutSeconds" default:"20"`
	MaxConsecutiveFailures int      `json:"maxConsecutiveFailures" default:"3"`
	DelaySeconds           int      `json:"delaySeconds" default:"15"`
	IgnoreHTTP1xx          *bool    `json:"ignoreHttp1xx,omitempty"` // HTTP and HTTPS only
	IPProtocol             string   `json:"ipProtocol,omitempty" default:"IPv4" enum:"IPv4|IPv6"`
}

// Mesos tells whether Mesos' executor runs the check: such a check kills at
// exactly MaxConsecutiveFailures, one of Marathon's own at one more.
func (h HealthCheck) Mesos() bool {
	return strings.HasPrefix(h.Protocol, "MESOS_") || h.Protocol == "COMMAND"
}

// A Command is what a COMMAND check runs.
type Command struct {
	Value string `json:"value" required:"true"`
}

// A ReadinessCheck says when a deployment may count a new task.
type ReadinessCheck struct {
	Name                    string `json:"name" default:"readinessCheck"`
	Protocol                string `json:"protocol" default:"HTTP" enum:"HTTP|HTTPS"` // HTTP or HTTPS
	Path                    string `json:"path" default:"/"`
	PortName                string `json:"portName" default:"http-api"`
	IntervalSeconds         int    `json:"intervalSeconds" default:"30" min:"1"`
	TimeoutSeconds          int    `json:"timeoutSeconds" default:"10" min:"1"`
	HTTPStatusCodesForReady []int  `json:"httpStatusCodesForReady"`
	PreserveLastResponse    bool   `json:"preserveLastResponse"`
}

// An UnreachableStrategy says what becomes of tasks on a lost agent. Its JSON is
// an object or "disabled".
type UnreachableStrategy struct {
	Disabled             bool `json:"-"`
	InactiveAfterSeconds int  `json:"inactiveAfterSeconds"`
	ExpungeAfterSeconds  int  `json:"expungeAfterSeconds"`
}

type enabledStrategy UnreachableStrategy

// MarshalJSON writes Marathon's form.
func (u UnreachableStrategy) MarshalJSON() ([]byte, error) {
	if u.Disabled {
		return []byte(`"disabled"`), nil
	}
	return json.Marshal(enabledStrategy(u))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (u *UnreachableStrategy) UnmarshalJSON(text []byte) error {
	*u = UnreachableStrategy{Disabled: string(text) == `"disabled"`}
	if u.Disabled {
		return nil
	}
	return json.Unmarshal(text, (*enabledStrategy)(u))
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

// servicePorts returns where the service ports are, in the order of the definition.
func (a *App) servicePorts() (slots []*int) {
	for i := range a.Mappings() {
		slots = append(slots, &a.Mappings()[i].ServicePort)
	}
	for i := range a.Ports() {
		slots = append(slots, &a.Ports()[i].Port)
	}
	return slots
}

// ServicePorts returns the service ports, in the order of the definition.
func (a *App) ServicePorts() []int {
	ports := []int{}
	for _, p := range a.servicePorts() {
		ports = append(ports, *p)
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
	var again []int
	if previous != nil {
		named := a.ServicePorts()
		again = slices.DeleteFunc(previous.ServicePorts(), func(p int) bool { return p < low || p > high || slices.Contains(named, p) })
	}
	next := low
	for _, s := range a.servicePorts() {
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
