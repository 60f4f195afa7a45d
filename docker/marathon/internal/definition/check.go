package definition

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/pattern"
)

// single is the label of an app that never has two tasks.
const single = "MARATHON_SINGLE_INSTANCE_APP"

const segment = `^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])$`

var (
	segmentRE = regexp.MustCompile(segment)
	networkRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`) // Docker's; ipAddress may name any
	valueRE   = regexp.MustCompile(`^[a-zA-Z0-9_/.-]*$`)
)

// CheckID returns what is wrong with the id of an app or group, "" if nothing.
func CheckID(id string) string {
	segments := strings.Split(strings.TrimPrefix(id, "/"), "/")
	for _, s := range segments {
		if !segmentRE.MatchString(s) {
			return "must fully match regular expression '" + segment + "'"
		}
	}
	switch last := segments[len(segments)-1]; last {
	case "restart", "tasks", "versions":
		return "must not end in '" + last + "'"
	}
	return ""
}

// check notes what is wrong with a canonical definition.
func (a *App) check(wrong *problems) {
	if text := CheckID(a.ID); text != "" {
		wrong.add("/id", "%s", text)
	}
	a.checkCommand(wrong)
	if a.GPUs > 0 {
		wrong.add("/", "Feature gpu_resources is not enabled: paasta marathon offers no GPUs")
	}
	a.checkRoles(wrong)
	for i, c := range a.Constraints {
		if text := checkConstraint(c); text != "" {
			wrong.add("/"+index("constraints", i), "%s", text)
		}
	}
	for _, bound := range []struct {
		key   string
		value float64
	}{
		{"minimumHealthCapacity", a.UpgradeStrategy.MinimumHealthCapacity},
		{"maximumOverCapacity", a.UpgradeStrategy.MaximumOverCapacity},
	} {
		switch {
		case bound.value < 0 || bound.value > 1:
			wrong.add("/upgradeStrategy/"+bound.key, "got %v, expected between 0.0 and 1.0", bound.value)
		case bound.value > 0 && a.Labels[single] == "true":
			wrong.add("/upgradeStrategy/"+bound.key, "got %v, expected 0.0", bound.value)
		}
	}
	if a.Labels[single] == "true" && a.Instances > 1 {
		wrong.add("/", "Single instance app may only have one instance")
	}
	if u := a.UnreachableStrategy; !u.Disabled && u.InactiveAfterSeconds > u.ExpungeAfterSeconds {
		wrong.add("/unreachableStrategy/inactiveAfterSeconds", "inactiveAfterSeconds (%d) must be less or equal to expungeAfterSeconds, which is %d", u.InactiveAfterSeconds, u.ExpungeAfterSeconds)
	}
	for i, d := range a.Dependencies {
		if d == a.ID {
			wrong.add("/"+index("dependencies", i), "an app must not depend on itself")
		}
	}
	a.checkContainer(wrong)
	a.checkNetworks(wrong)
	a.checkPorts(wrong)
	a.checkHealthChecks(wrong)
}

func (a *App) checkCommand(wrong *problems) {
	const either = "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."
	switch {
	case a.Cmd != nil && len(a.Args) > 0, a.Cmd == nil && len(a.Args) == 0 && a.Container == nil:
		wrong.add("/", either)
	case a.Cmd == nil && len(a.Args) == 0 && a.Image() == "" && a.Container.Type == "MESOS":
		wrong.add("/", "%s paasta marathon runs a MESOS container without an image as a process, so it needs one.", either)
	case a.Cmd != nil && len(*a.Cmd) <= 1:
		wrong.add("/", "must not be an empty string")
	}
}

func (a *App) checkRoles(wrong *problems) {
	known := []string{"*"}
	if a.Role != "" && a.Role != "*" {
		known = append(known, a.Role)
	}
	for _, r := range a.AcceptedResourceRoles {
		if !slices.Contains(known, r) {
			wrong.add("/acceptedResourceRoles", "acceptedResourceRoles can only contain %s", strings.Join(known, " and "))
			return
		}
	}
}

func checkConstraint(c []string) string {
	if len(c) < 2 || len(c) > 3 {
		return "Each constraint must have either 2 or 3 fields"
	}
	value, has := "", len(c) == 3
	if has {
		value = c[2]
	}
	_, notInt := strconv.Atoi(value)
	switch c[1] {
	case "UNIQUE":
		if has {
			return "UNIQUE does not accept a value"
		}
	case "CLUSTER":
	case "GROUP_BY":
		if has && notInt != nil {
			return "GROUP BY must define an integer value or else no value at all"
		}
	case "MAX_PER":
		if !has || notInt != nil {
			return "MAX_PER requires an integer value"
		}
	case "LIKE", "UNLIKE":
		if value == "" {
			return "LIKE and UNLIKE require a non-empty, regular expression value"
		}
		if _, err := pattern.Matches(value, ""); err != nil {
			return fmt.Sprintf("'%s' is not a valid regular expression", value)
		}
	case "IS":
		if !has || !valueRE.MatchString(value) {
			return "IS requires a value of letters, digits and _/.-"
		}
	default:
		return "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS"
	}
	return ""
}

func (a *App) checkContainer(wrong *problems) {
	if a.Container == nil {
		return
	}
	if a.Container.Type == "DOCKER" && a.Container.Docker == nil {
		wrong.add("/container/docker", "not defined")
	}
	if a.Container.Docker != nil && a.Container.Docker.Image == "" {
		wrong.add("/container/docker/image", "must not be empty")
	}
	for i, v := range a.Container.Volumes {
		path := "/container/" + index("volumes", i)
		if v.ContainerPath == "" {
			wrong.add(path+"/containerPath", "must not be empty")
		}
		if v.HostPath == "" {
			wrong.add(path+"/hostPath", "must not be empty")
		}
	}
}

func (a *App) checkNetworks(wrong *problems) {
	modes := map[string]int{}
	names := map[string]bool{}
	for _, n := range a.Networks {
		modes[n.Mode]++
		text := ""
		switch {
		case n.Mode == "container/bridge" && n.Name != "":
			text = "Bridge networks may not have names"
		case n.Mode == "host" && (n.Name != "" || len(n.Labels) > 0):
			text = "Host networks may not have names or labels"
		case n.Mode == "container" && n.Name == "":
			text = "Network name must be specified when container network is selected."
		case n.Mode == "container" && !networkRE.MatchString(n.Name):
			text = "Network name must be one of Docker's"
		case n.Mode == "container" && names[n.Name]:
			text = "Duplicate networks are not allowed"
		}
		if text != "" {
			wrong.add("/networks", "%s", text)
		}
		names[n.Name] = true
	}
	if len(modes) > 1 || modes["host"] > 1 || modes["container/bridge"] > 1 {
		wrong.add("/networks", "May specify a single host network, single bridge network, or else 1-to-n container networks")
	} else if modes["container"] > 1 {
		wrong.add("/", "may only specify a single container network when using the Docker container engine")
	}
	if a.Mode() != "host" && a.Image() == "" {
		wrong.add("/networks", "a task without a Docker image runs as a process of this host: only host networking is possible")
	}
}

func (a *App) checkPorts(wrong *problems) {
	names, ports := map[string]bool{}, []int{}
	unique := func(list, name string) {
		if names[name] && name != "" {
			wrong.add(list, "Port names must be unique.")
		}
		names[name] = true
	}
	for _, p := range a.Ports() {
		unique("/portDefinitions", p.Name)
		ports = append(ports, p.Port)
	}
	if twice(ports) {
		wrong.add("/portDefinitions", "Ports must be unique.")
	}
	for _, m := range a.Mappings() {
		unique("/container/portMappings", m.Name)
	}
}

func (a *App) checkHealthChecks(wrong *problems) {
	executors := 0
	for i, h := range a.HealthChecks {
		if h.Mesos() && h.Command == nil {
			executors++
		}
		path := "/" + index("healthChecks", i)
		switch {
		case h.Protocol == "COMMAND":
			if h.Command == nil || h.Command.Value == "" {
				wrong.add(path+"/command", "Health check of protocol COMMAND must define a command")
			}
		case h.PortIndex != nil && *h.PortIndex >= a.NumPorts():
			wrong.add(path, "Health check port indices must address an element of the ports array or container port mappings.")
		case h.PortIndex == nil && h.Port == nil:
			wrong.add(path, "Health check must define a port or a port index")
		}
	}
	if executors > 1 {
		wrong.add("/", "AppDefinition can contain at most one Mesos health check")
	}
	if len(a.ReadinessChecks) > 1 {
		wrong.add("/readinessChecks", "there can be only one readiness check")
	}
	for i, r := range a.ReadinessChecks {
		path := "/" + index("readinessChecks", i)
		found := false
		for n := range a.NumPorts() {
			found = found || a.PortName(n) == r.PortName
		}
		if !found {
			wrong.add(path+"/portName", "No port definition reference for portName %s", r.PortName)
		}
		if r.TimeoutSeconds >= r.IntervalSeconds {
			wrong.add(path+"/timeoutSeconds", "got %d, expected less than %d", r.TimeoutSeconds, r.IntervalSeconds)
		}
	}
}
