package marathon

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/pattern"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// A Deployment is what the tags say about an instance.
type Deployment struct {
	Image       string // relative to the registry, e.g. services-web:paasta-<sha>
	GitSHA      string // full
	ForceBounce string // time of the start or stop tag that counts; "" for none
}

// AppInput is what an app is formed from.
type AppInput struct {
	Instance soaconfig.Instance
	// Namespace of the primary registration, nil when there is none.
	Namespace  *soaconfig.Namespace
	Deployment Deployment
	Registry   string // service.yaml docker_registry; "" for the system's
	Team       string // monitoring team; "" for none
	Size       int    // tasks; 0 when stopped
	System     sysconfig.Config
}

// AppDefinitions are an app in the two shapes that it can have: Definition, and the
// same as a refresh of an app that differs only in system-wide values.
type AppDefinitions struct {
	Definition Definition
	Refresh    Definition
}

// BuildApp makes the app of an instance. It is pure: equal inputs make equal apps.
// It fails for what soa-configs cannot know to be wrong, for instance a
// location that no agent has.
func BuildApp(in AppInput) (AppDefinitions, error) {
	i := in.Instance
	id := paasta.InstanceID{Service: i.Service, Instance: i.Name}
	if in.Deployment.Image == "" || in.Deployment.GitSHA == "" {
		return AppDefinitions{}, fmt.Errorf("build app of %s: not deployed to %s yet (paasta mark-for-deployment does that)", id, i.DeployGroup)
	}
	registry := in.Registry
	if registry == "" {
		registry = in.System.DockerRegistry
	}
	health := HealthOf(i, in.Namespace)
	constraints, computed, err := constraintsOf(in)
	if err != nil {
		return AppDefinitions{}, fmt.Errorf("build app of %s: %w", id, err)
	}
	hashed := hashInput(i, in.Deployment, health)
	base := ConfigHash(hashed)
	system := SystemHash(SystemInput{
		Registry: registry, Dockercfg: in.System.DockercfgLocation, Volumes: volumes(in.System.Volumes, nil),
		Constraints: computed, Team: in.Team, DeployGroup: i.DeployGroup,
	})
	hashed.Refresh = system

	d := Definition{
		Cmd: i.Cmd, Args: i.Args,
		CPUs: i.CPUs, Mem: i.MemMB, Disk: i.DiskMB, GPUs: i.GPUs,
		Instances: in.Size, Env: envOf(in), Constraints: constraints,
		AcceptedResourceRoles: i.AcceptedResourceRoles,
		Container:             containerOf(in, registry),
		HealthChecks:          checksOf(health),
		BackoffSeconds:        backoffSeconds(i),
		BackoffFactor:         i.BackoffFactor,
		MaxLaunchDelaySeconds: wholeSeconds(i.MaxLaunchDelay),
	}
	if in.System.DockercfgLocation != "" {
		d.URIs = []string{in.System.DockercfgLocation}
	}
	switch d.Container.Docker.Network {
	case "BRIDGE":
	case "USER":
		d.IPAddress = &IPAddress{i.Net}
	default:
		d.PortDefinitions = []PortDefinition{{Port: i.HostPort, Protocol: "tcp"}}
		d.RequirePorts = i.HostPort != 0
	}
	if d.BackoffFactor == 0 {
		d.BackoffFactor = 2
	}
	if d.MaxLaunchDelaySeconds == 0 {
		d.MaxLaunchDelaySeconds = 300
	}
	named := func(config string) Definition {
		d := d
		d.ID = paasta.AppID{InstanceID: id, Git: gitPart(in.Deployment.Image, in.Deployment.GitSHA), Config: config}.String()
		d.Labels = map[string]string{
			LabelService: i.Service, LabelInstance: i.Name, LabelCluster: in.System.Cluster,
			LabelGitSHA: in.Deployment.GitSHA, LabelConfigSHA: config, LabelConfigBase: base, LabelSystemSHA: system,
			LabelDeployGroup: i.DeployGroup, LabelRegistrations: strings.Join(i.Registrations, ","),
		}
		return d
	}
	return AppDefinitions{Definition: named(base), Refresh: named(ConfigHash(hashed))}, nil
}

// Choose returns the definition that should run, given the instance's apps, and
// whether the app that runs is stale: the same but for system-wide values. With
// refresh a stale app is replaced, without it stays.
func (f AppDefinitions) Choose(apps []App, refresh bool) (d Definition, stale bool) {
	want := f.Definition.Labels
	var old *App
	for _, a := range apps {
		if a.Labels[LabelConfigBase] != want[LabelConfigBase] || a.Labels[LabelGitSHA] != want[LabelGitSHA] {
			continue
		}
		if a.Labels[LabelSystemSHA] == want[LabelSystemSHA] {
			// Up to date under either name.
			if a.ID == f.Refresh.ID {
				return f.Refresh, false
			}
			if a.ID == f.Definition.ID {
				return f.Definition, false
			}
		}
		if old == nil || a.Created.After(old.Created) {
			old = &a
		}
	}
	switch {
	case old == nil:
		return f.Definition, false
	case refresh:
		return f.Refresh, true
	}
	d = f.Definition
	d.ID = old.ID
	d.Labels = maps.Clone(d.Labels)
	d.Labels[LabelConfigSHA] = old.Labels[LabelConfigSHA]
	return d, true
}

// wholeSeconds rounds up: Marathon takes no fraction, and 0 means something else.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// gitPart is "git" and 8 characters of the commit, as the image's name has it.
func gitPart(image, sha string) string {
	if n := strings.LastIndex(path.Base(image), "-"); n >= 0 {
		sha = path.Base(image)[n+1:]
	}
	return "git" + sha[:min(8, len(sha))]
}

// HealthOf is the instance's health check, with the namespace's mode and URI
// where the instance has none.
func HealthOf(i soaconfig.Instance, ns *soaconfig.Namespace) soaconfig.HealthCheck {
	h := i.HealthCheck
	if ns != nil && h.Mode == "" {
		switch {
		case ns.HealthcheckMode != "":
			h.Mode = ns.HealthcheckMode
		case ns.Mode != "":
			h.Mode = ns.Mode
		case ns.ProxyPort != nil:
			h.Mode = "http"
		}
	}
	if ns != nil && h.URI == "" {
		h.URI = ns.HealthcheckURI
	}
	if h.URI == "" {
		h.URI = "/status"
	}
	return h
}

func checksOf(h soaconfig.HealthCheck) []HealthCheck {
	first := 0
	check := HealthCheck{
		GracePeriodSeconds: wholeSeconds(h.Grace), IntervalSeconds: wholeSeconds(h.Interval),
		TimeoutSeconds: wholeSeconds(h.Timeout), MaxConsecutiveFailures: h.MaxFailures, PortIndex: &first,
	}
	switch h.Mode {
	case "http", "https":
		check.Protocol, check.Path = "MESOS_"+strings.ToUpper(h.Mode), h.URI
	case "tcp":
		check.Protocol = "TCP"
	case "cmd":
		check.Protocol, check.PortIndex, check.Command = "COMMAND", nil, &Command{h.Cmd}
	default:
		return nil
	}
	return []HealthCheck{check}
}

func envOf(in AppInput) map[string]string {
	i := in.Instance
	env := map[string]string{
		"PAASTA_SERVICE": i.Service, "PAASTA_INSTANCE": i.Name, "PAASTA_CLUSTER": i.Cluster,
		"PAASTA_DEPLOY_GROUP": i.DeployGroup, "PAASTA_DOCKER_IMAGE": in.Deployment.Image,
		"PAASTA_INSTANCE_TYPE": "marathon",
	}
	if in.Team != "" {
		env["PAASTA_MONITORING_TEAM"] = in.Team
	}
	maps.Copy(env, i.Env)
	return env
}

// dropped are the capabilities that no container of ours keeps.
var dropped = []string{
	"SETPCAP", "MKNOD", "AUDIT_WRITE", "CHOWN", "NET_RAW", "DAC_OVERRIDE", "FOWNER", "FSETID",
	"KILL", "SETGID", "SETUID", "NET_BIND_SERVICE", "SYS_CHROOT", "SETFCAP",
}

func containerOf(in AppInput, registry string) Container {
	i := in.Instance
	image := in.Deployment.Image
	if registry != "" {
		image = registry + "/" + image
	}
	c := Container{Type: "DOCKER", Docker: Docker{Image: image}, Volumes: volumes(in.System.Volumes, i.Volumes)}
	if i.GPUs != nil {
		c.Type = "MESOS"
		return c
	}
	c.Docker.Network = networkOf(i.Net)
	if c.Docker.Network != "HOST" {
		c.Docker.PortMappings = []PortMapping{{ContainerPort: i.ContainerPort, HostPort: i.HostPort, Protocol: "tcp"}}
	}
	period := i.CFSPeriod.Microseconds()
	add := func(key, value string) {
		c.Docker.Parameters = append(c.Docker.Parameters, Parameter{key, value})
	}
	add("memory-swap", fmt.Sprintf("%.0fm", math.Ceil(i.MemMB+64)))
	if period > 0 {
		add("cpu-period", strconv.FormatInt(period, 10))
		add("cpu-quota", strconv.FormatInt(int64((i.CPUs+i.CPUBurstAdd)*float64(period)), 10))
	}
	add("label", "paasta_service="+i.Service)
	add("label", "paasta_instance="+i.Name)
	for _, key := range slices.Sorted(maps.Keys(i.ExtraDockerArgs)) {
		add(key, i.ExtraDockerArgs[key])
	}
	for _, name := range slices.Sorted(maps.Keys(i.Ulimits)) {
		add("ulimit", name+"="+ulimit(i.Ulimits[name]))
	}
	for _, capability := range i.CapAdd {
		add("cap-add", capability)
	}
	add("init", "true")
	for _, capability := range dropped {
		add("cap-drop", capability)
	}
	return c
}

func ulimit(u soaconfig.Ulimit) string {
	if u.Hard == nil {
		return strconv.FormatInt(u.Soft, 10)
	}
	return fmt.Sprintf("%d:%d", u.Soft, *u.Hard)
}

func networkOf(net string) string {
	switch net {
	case "", "bridge":
		return "BRIDGE"
	case "host":
		return "HOST"
	}
	return "USER"
}

// volumes joins the system's and the instance's, the later one winning for one
// pair of paths, sorted.
func volumes(system []sysconfig.Volume, own []soaconfig.Volume) []Volume {
	byPaths := map[[2]string]Volume{}
	put := func(host, container, mode string) {
		trim := func(p string) string {
			if p == "/" {
				return p
			}
			return strings.TrimRight(p, "/")
		}
		v := Volume{ContainerPath: trim(container), HostPath: trim(host), Mode: mode}
		byPaths[[2]string{v.ContainerPath, v.HostPath}] = v
	}
	for _, v := range system {
		put(v.HostPath, v.ContainerPath, v.Mode)
	}
	for _, v := range own {
		put(v.HostPath, v.ContainerPath, v.Mode)
	}
	out := slices.Collect(maps.Values(byPaths))
	slices.SortFunc(out, func(a, b Volume) int {
		return strings.Compare(a.ContainerPath+"\x00"+a.HostPath, b.ContainerPath+"\x00"+b.HostPath)
	})
	if out == nil {
		out = []Volume{}
	}
	return out
}

// backoffSeconds keeps an instance's restarts, over all its tasks, at about one
// in ten seconds.
func backoffSeconds(i soaconfig.Instance) int {
	n := i.Size
	if i.MaxInstances != nil {
		n = *i.MaxInstances
	}
	if n <= 0 {
		return 1
	}
	return int(math.Ceil(10 / float64(n)))
}

// constraintsOf returns all constraints, and apart those that follow from
// system-wide values.
func constraintsOf(in AppInput) (all, computed [][]string, err error) {
	i := in.Instance
	if i.Constraints != nil {
		return i.Constraints, nil, nil
	}
	all = append(all, i.ExtraConstraints...)
	var systemWhite *soaconfig.Whitelist
	if attribute, values := in.System.Whitelist(); attribute != "" {
		systemWhite = &soaconfig.Whitelist{Attribute: attribute, Values: values}
	}
	spread, err := spreadOf(in, systemWhite)
	if err != nil {
		return nil, nil, err
	}
	computed = append(computed, spread...)
	all = append(all, computed...)
	all = append(all, listed(i.DeployBlacklist, i.DeployWhitelist)...)
	fromSystem := listed(in.System.DeployBlacklist, systemWhite)
	all = append(all, fromSystem...)
	computed = append(computed, fromSystem...)
	pool := i.Pool
	if pool == "" {
		pool = "default"
	}
	all = append(all, []string{"pool", "LIKE", pool})
	n := i.Size
	if i.MaxInstances != nil {
		n = *i.MaxInstances
	}
	if n <= in.System.HostnameUniqueSize {
		unique := []string{"hostname", "UNIQUE"}
		all, computed = append(all, unique), append(computed, unique)
	}
	return all, computed, nil
}

// defaultDiscover is by what an instance is spread that no namespace says more of.
const defaultDiscover = "region"

// spreadOf returns the constraint that spreads the tasks over all values of the
// attribute that clients discover by, as far as agents are known.
func spreadOf(in AppInput, systemWhite *soaconfig.Whitelist) ([][]string, error) {
	if in.System.ExpectedAgents == nil {
		return nil, nil
	}
	discover := defaultDiscover
	if in.Namespace != nil && in.Namespace.Discover != "" {
		discover = in.Namespace.Discover
	}
	i, match, values := in.Instance, false, map[string]bool{}
	for _, agent := range in.System.ExpectedAgents {
		if !allowed(agent, i.DeployBlacklist, i.DeployWhitelist) || !allowed(agent, in.System.DeployBlacklist, systemWhite) {
			continue
		}
		match = true
		if v, ok := agent[discover]; ok {
			values[v] = true
		}
	}
	switch {
	case !match:
		return nil, fmt.Errorf("no agents match its deploy_whitelist and deploy_blacklist and those of the system config: none of the %d in expected_agent_attributes may run it", len(in.System.ExpectedAgents))
	case len(values) > 0:
		return [][]string{{discover, "GROUP_BY", strconv.Itoa(len(values))}}, nil
	case in.Namespace == nil:
		return nil, nil // nobody asked for regions where there are none
	}
	return nil, fmt.Errorf("no expected agent has the attribute %q that smartstack.yaml discovers by, once black and white lists are applied", discover)
}

func listed(black [][]string, white *soaconfig.Whitelist) [][]string {
	var out [][]string
	for _, b := range black {
		if len(b) == 2 {
			out = append(out, []string{b[0], "UNLIKE", b[1]})
		}
	}
	if white != nil {
		out = append(out, []string{white.Attribute, "LIKE", strings.Join(white.Values, "|")})
	}
	return out
}

// allowed tells whether an agent passes a black and a white list, whose values
// are regular expressions; what is none is taken literally.
func allowed(agent map[string]string, black [][]string, white *soaconfig.Whitelist) bool {
	for _, b := range black {
		if len(b) == 2 && matches(b[1], agent[b[0]]) {
			return false
		}
	}
	if white == nil {
		return true
	}
	return slices.ContainsFunc(white.Values, func(v string) bool { return matches(v, agent[white.Attribute]) })
}

func matches(expression, value string) bool {
	ok, err := pattern.Matches(expression, value)
	return ok || err != nil && expression == value
}
