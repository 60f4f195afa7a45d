package definition

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/pattern"
)

const segment = `^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])$`

var (
	segmentRE  = regexp.MustCompile(segment)
	portNameRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	networkRE  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`) // Docker's; ipAddress may name any
	executorRE = regexp.MustCompile(`^(//cmd)$|^(/?[^/]+(/[^/]+)*)$|^$`)
	valueRE    = regexp.MustCompile(`^[a-zA-Z0-9_/.-]*$`)
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
		wrong.add("/gpus", "Feature gpu_resources is not enabled: paasta marathon offers no GPUs")
	}
	if !executorRE.MatchString(a.Executor) {
		wrong.add("/executor", `must match '(//cmd)|(/?[^/]+(/[^/]+)*)|'`)
	}
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
		if bound.value < 0 || bound.value > 1 {
			wrong.add("/upgradeStrategy/"+bound.key, "got %v, expected between 0.0 and 1.0", bound.value)
		}
	}
	if a.Labels["MARATHON_SINGLE_INSTANCE_APP"] == "true" {
		if a.Instances > 1 {
			wrong.add("/instances", "Number of instances can only be 1 for apps with label MARATHON_SINGLE_INSTANCE_APP")
		}
		if a.UpgradeStrategy != (UpgradeStrategy{}) {
			wrong.add("/upgradeStrategy", "must be 0 and 0 for apps with label MARATHON_SINGLE_INSTANCE_APP")
		}
	}
	if u := a.UnreachableStrategy; !u.Disabled && u.InactiveAfterSeconds > u.ExpungeAfterSeconds {
		wrong.add("/unreachableStrategy", "inactiveAfterSeconds must not be greater than expungeAfterSeconds")
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
		wrong.add("/cmd", "must not be an empty string")
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
	for i, n := range a.Networks {
		modes[n.Mode]++
		path := "/" + index("networks", i) + "/name"
		switch {
		case n.Mode == "container/bridge" && n.Name != "":
			wrong.add(path, "Bridge networks may not have names")
		case n.Mode == "host" && n.Name != "":
			wrong.add(path, "Host networks may not have names")
		case n.Mode == "container" && n.Name == "":
			wrong.add(path, "Network name must be specified when container network is selected.")
		case n.Mode == "container" && !networkRE.MatchString(n.Name):
			wrong.add(path, "error.pattern")
		case n.Mode == "container" && names[n.Name]:
			wrong.add("/networks", "Duplicate networks are not allowed")
		}
		names[n.Name] = true
	}
	if len(modes) > 1 || modes["host"] > 1 || modes["container/bridge"] > 1 {
		wrong.add("/networks", "May specify a single host network, single bridge network, or else 1-to-n container networks")
	} else if modes["container"] > 1 {
		wrong.add("/networks", "Docker allows one container network")
	}
	if a.Mode() != "host" && a.Image() == "" {
		wrong.add("/networks", "a task without a Docker image runs as a process of this host: only host networking is possible")
	}
}

func (a *App) checkPorts(wrong *problems) {
	names, ports := map[string]bool{}, map[int]bool{}
	name := func(path, s string) {
		if s == "" {
			return
		}
		if !portNameRE.MatchString(s) {
			wrong.add(path+"/name", "must fully match regular expression '%s'", portNameRE)
		}
		if names[s] {
			wrong.add("/", "Port names must be unique.")
		}
		names[s] = true
	}
	for i, p := range a.Ports() {
		name("/"+index("portDefinitions", i), p.Name)
		if p.Port != 0 && ports[p.Port] {
			wrong.add("/portDefinitions", "Ports must be unique.")
		}
		ports[p.Port] = true
	}
	for i, m := range a.Mappings() {
		name("/container/"+index("portMappings", i), m.Name)
	}
}

func (a *App) checkHealthChecks(wrong *problems) {
	for i, h := range a.HealthChecks {
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
			wrong.add(path+"/timeoutSeconds", "must be less than intervalSeconds")
		}
	}
}
