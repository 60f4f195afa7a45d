package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
)

// A SyntaxError says that a body is no JSON at all.
type SyntaxError struct{ Message, Details string }

func (e *SyntaxError) Error() string { return e.Message + ": " + e.Details }

// Decode reads a JSON document, with its numbers as they were written.
func Decode(text []byte) (any, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, &SyntaxError{"Please specify data in JSON format", "No content to map due to end-of-input"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("unexpected text after the document")
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, &SyntaxError{"Invalid JSON", "Unexpected end-of-input"}
	}
	if err != nil {
		return nil, &SyntaxError{"Invalid JSON", err.Error()}
	}
	return v, nil
}

// Object is a decoded JSON object.
type Object = map[string]any

// ToObject returns a definition as a decoded JSON object.
func ToObject(a *App) Object {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err) // App has no value that JSON lacks
	}
	v, err := Decode(text)
	if err != nil {
		panic(err) // it is what json wrote
	}
	return v.(Object)
}

// Merge lays the given top-level members of an update over the current
// definition; null is not given. A member in an old dialect takes the place of
// its canonical one.
func Merge(current *App, update Object) Object {
	merged := ToObject(current)
	delete(merged, "version")
	delete(merged, "versionInfo")
	given := func(key string) bool { return update[key] != nil }
	if given("ports") {
		delete(merged, "portDefinitions")
	}
	if given("uris") {
		delete(merged, "fetch")
	}
	container, _ := update["container"].(Object)
	docker, _ := container["docker"].(Object)
	if given("ipAddress") || docker["network"] != nil {
		delete(merged, "networks")
	}
	// Port definitions of the host network would become mappings of another.
	if docker["network"] != nil || given("networks") || given("ipAddress") {
		if !given("portDefinitions") {
			delete(merged, "portDefinitions")
		}
		if c, ok := merged["container"].(Object); ok && !given("container") {
			delete(c, "portMappings")
		}
	}
	for key, value := range update {
		if value != nil {
			merged[key] = value
		}
	}
	return merged
}

// ResolveID makes an id absolute, as seen from the group base ("/" or "/a/b").
func ResolveID(id, base string) string {
	if !strings.HasPrefix(id, "/") {
		id = base + "/" + id
	}
	return path.Clean("/" + id)
}

// Parse makes the canonical form of a decoded definition in any dialect, with
// every default filled in, and checks it. base is the group that relative ids
// are seen from. The error is an *InvalidError.
func Parse(in Object, base string) (*App, error) {
	var wrong, refused problems
	a := read(object{in, "", &wrong, &refused}, base)
	if len(wrong) > 0 {
		return nil, &InvalidError{"Invalid JSON", wrong}
	}
	if len(refused) == 0 {
		a.check(&refused)
	}
	if len(refused) > 0 {
		return nil, &InvalidError{"Object is not valid", refused}
	}
	return a, nil
}

// absent is what paasta marathon has not, by the object that would ask for it:
// an app that runs without it would not be what was asked for.
var absent = map[string]map[string]string{
	"": {
		"secrets":           "Feature secrets is not enabled: paasta marathon keeps no secrets",
		"check":             "Feature check is not enabled: paasta marathon runs healthChecks and readinessChecks",
		"executorResources": "Feature executorResources is not enabled: paasta marathon has no executors",
		"residency":         "Feature residency is not enabled: paasta marathon has no persistent volumes",
		"resourceLimits":    "Feature resourceLimits is not enabled: paasta marathon limits memory to mem, and cpus not at all",
	},
	"/container":        {"linuxInfo": "Feature linuxInfo is not enabled: container.docker.parameters has the options of docker run"},
	"/container/docker": {"credential": "must be empty", "pullConfig": "pullConfig is not supported with Docker containerizer"},
}

// refuseAbsent notes what is asked for and absent.
func (o object) refuseAbsent() {
	for _, key := range sortedKeys(absent[o.path]) {
		switch v := o.members[key].(type) {
		case nil:
		case map[string]any:
			if len(v) > 0 {
				o.refuse(key, absent[o.path][key])
			}
		default:
			o.fail(key, "error.expected.jsobject")
		}
	}
}

func read(o object, base string) *App {
	a := &App{
		User:                  o.str("user", ""),
		Args:                  o.strings("args"),
		Instances:             o.integer("instances", 1, 0, maxInt),
		CPUs:                  o.float("cpus", 1, 0.001),
		Mem:                   o.float("mem", 128, 0),
		Disk:                  o.float("disk", 0, 0),
		GPUs:                  o.integer("gpus", 0, 0, maxInt),
		Executor:              o.str("executor", ""),
		BackoffSeconds:        o.float("backoffSeconds", 1, 0),
		BackoffFactor:         o.float("backoffFactor", 1.15, 1),
		MaxLaunchDelaySeconds: o.float("maxLaunchDelaySeconds", 300, 0),
		Labels:                o.stringMap("labels"),
		AcceptedResourceRoles: o.strings("acceptedResourceRoles"),
		RequirePorts:          o.boolean("requirePorts", false),
		KillSelection:         o.enum("killSelection", "YOUNGEST_FIRST", "YOUNGEST_FIRST", "OLDEST_FIRST"),
		Role:                  o.str("role", ""),
	}
	if !o.has("id") {
		o.fail("id", "error.path.missing")
	}
	if id := o.str("id", ""); id != "" {
		a.ID = ResolveID(id, base)
	}
	if o.has("cmd") {
		cmd := o.str("cmd", "")
		a.Cmd = &cmd
		if o.members["cmd"] == "" {
			o.fail("cmd", "error.minLength")
		}
	}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	if o.has("taskKillGracePeriodSeconds") {
		grace := o.float("taskKillGracePeriodSeconds", 0, 0)
		a.TaskKillGracePeriodSeconds = &grace
	}
	if o.has("tty") {
		tty := o.boolean("tty", false)
		a.TTY = &tty
	}
	if roles, given := o.list("acceptedResourceRoles"); given && len(roles) == 0 {
		o.refuse("acceptedResourceRoles", "must not be empty")
	}
	if !executorRE.MatchString(a.Executor) {
		o.fail("executor", "error.pattern")
	}
	o.refuseAbsent()
	a.readEnv(o)
	a.readConstraints(o)
	a.readFetch(o)
	for _, d := range o.strings("dependencies") {
		a.Dependencies = append(a.Dependencies, ResolveID(d, path.Dir(a.ID)))
	}
	a.readContainer(o)
	a.readNetworks(o)
	a.readPorts(o)
	a.readStrategies(o)
	a.readHealthChecks(o)
	a.readReadinessChecks(o)
	return a
}

func (a *App) readEnv(o object) {
	env, ok := o.object("env")
	if !ok {
		return
	}
	a.Env = make(map[string]string, len(env.members))
	for _, k := range sortedKeys(env.members) {
		switch v := env.members[k].(type) {
		case string:
			a.Env[k] = v
		case map[string]any:
			env.refuse(k, "Feature secrets is not enabled: paasta marathon keeps no secrets")
		default:
			env.fail(k, "error.expected.jsstring")
		}
	}
}

func (a *App) readConstraints(o object) {
	l, _ := o.list("constraints")
	for i, v := range l {
		fields, ok := v.([]any)
		if !ok {
			o.fail(index("constraints", i), "error.expected.jsarray")
			continue
		}
		var c []string
		for _, f := range fields {
			s, ok := f.(string)
			if !ok {
				o.fail(index("constraints", i), "error.expected.jsstring")
				break
			}
			c = append(c, s)
		}
		if len(c) > 1 {
			c[1] = strings.ToUpper(c[1])
		}
		a.Constraints = append(a.Constraints, c)
	}
}

var archives = []string{".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip"}

func (a *App) readFetch(o object) {
	uris := o.strings("uris")
	items, _ := o.objects("fetch")
	if len(uris) > 0 && len(items) > 0 {
		o.refuse("uris", "may not be set in conjunction with fetch")
	}
	for i, uri := range uris {
		o.checkURI(index("uris", i), uri)
		file, _, _ := strings.Cut(uri, "?")
		extract := slices.ContainsFunc(archives, func(suffix string) bool { return strings.HasSuffix(file, suffix) })
		a.Fetch = append(a.Fetch, Fetch{URI: uri, Extract: extract})
	}
	for _, f := range items {
		if !f.has("uri") {
			f.fail("uri", "error.path.missing")
		}
		f.checkURI("uri", f.str("uri", ""))
		a.Fetch = append(a.Fetch, Fetch{
			URI: f.str("uri", ""), Extract: f.boolean("extract", true), Executable: f.boolean("executable", false),
			Cache: f.boolean("cache", false), DestPath: f.str("destPath", ""),
		})
	}
}

func (o object) checkURI(key, uri string) {
	if _, err := url.Parse(uri); err != nil || strings.ContainsAny(uri, ` "<>\^`+"`{|}") {
		o.refuse(key, "URI has invalid syntax.")
	}
}

func (a *App) readContainer(o object) {
	c, ok := o.object("container")
	if !ok {
		return
	}
	c.refuseAbsent()
	a.Container = &Container{Type: c.enum("type", "DOCKER", "DOCKER", "MESOS"), Volumes: []Volume{}}
	if d, ok := c.object("docker"); ok {
		d.refuseAbsent()
		if !d.has("image") {
			d.fail("image", "error.path.missing")
		}
		a.Container.Docker = &Docker{
			Image: d.str("image", ""), ForcePullImage: d.boolean("forcePullImage", false),
			Privileged: d.boolean("privileged", false), Parameters: []Parameter{},
		}
		parameters, _ := d.objects("parameters")
		for _, p := range parameters {
			a.Container.Docker.Parameters = append(a.Container.Docker.Parameters, Parameter{p.str("key", ""), p.str("value", "")})
		}
	}
	volumes, _ := c.objects("volumes")
	for _, v := range volumes {
		for _, kind := range []string{"persistent", "external", "secret"} {
			if v.has(kind) {
				v.refuse(kind, fmt.Sprintf("Feature %s volumes is not enabled: paasta marathon has host volumes only", kind))
			}
		}
		a.Container.Volumes = append(a.Container.Volumes, Volume{
			ContainerPath: v.str("containerPath", ""), HostPath: v.str("hostPath", ""), Mode: v.enum("mode", "RW", "RO", "RW"),
		})
	}
}

func (a *App) readNetworks(o object) {
	var legacy string // docker.network
	c, _ := o.object("container")
	if c.wrong == nil {
		c.wrong = o.wrong
	}
	if d, ok := c.object("docker"); ok && d.has("network") {
		legacy = d.enum("network", "HOST", "HOST", "BRIDGE", "USER", "NONE")
	}
	ip, hasIP := o.object("ipAddress")
	networks, hasNetworks := o.objects("networks")
	switch {
	case hasNetworks && len(networks) > 0 && legacy != "":
		o.refuse(whole, "must not specify both container.docker.network and networks")
	case hasNetworks && len(networks) > 0 && hasIP:
		o.refuse(whole, "must not specify both networks and ipAddress")
	case hasNetworks && len(networks) > 0:
		for _, n := range networks {
			a.Networks = append(a.Networks, Network{
				Mode: n.enum("mode", "container", "host", "container/bridge", "container"),
				Name: n.str("name", ""), Labels: n.stringMap("labels"),
			})
		}
	case legacy == "BRIDGE":
		a.Networks = []Network{{Mode: "container/bridge"}}
	case legacy == "USER" || hasIP && legacy == "":
		name := ""
		if hasIP {
			name = ip.str("networkName", "")
		}
		a.Networks = []Network{{Mode: "container", Name: name}}
	case legacy == "NONE":
		c.fail("docker/network", "network NONE is not supported")
	}
	if len(a.Networks) == 0 {
		a.Networks = []Network{{Mode: "host"}}
	}
}

func (a *App) readPorts(o object) {
	ports, hasPorts := o.integers("ports")
	definitions, hasDefinitions := o.objects("portDefinitions")
	var defined []PortDefinition
	for _, d := range definitions {
		defined = append(defined, PortDefinition{
			Port: d.integer("port", 0, 0, 65535), Protocol: d.enum("protocol", "tcp", "tcp", "udp", "udp,tcp"),
			Name: d.portName(), Labels: d.stringMap("labels"),
		})
	}
	if hasPorts && len(ports) > 0 && hasDefinitions {
		same := len(ports) == len(defined)
		for i := range min(len(ports), len(defined)) {
			same = same && ports[i] == defined[i].Port
		}
		if !same {
			o.refuse(whole, "cannot specify both ports and port definitions")
		}
	}
	if twice(ports) {
		o.refuse(whole, "ports must be unique")
	}
	if o.has("ipAddress") && len(ports)+len(definitions) > 0 {
		o.refuse(whole, "cannot specify both an IP address and port")
	}
	if !hasDefinitions {
		for _, p := range ports {
			defined = append(defined, PortDefinition{Port: p, Protocol: "tcp"})
		}
	}
	mappings, hasMappings := a.readMappings(o)
	if a.Mode() == "host" {
		switch {
		case hasDefinitions || hasPorts:
		default:
			defined = []PortDefinition{{Protocol: "tcp", Name: "default"}}
		}
		if defined == nil {
			defined = []PortDefinition{}
		}
		a.PortDefinitions = &defined
		return
	}
	a.RequirePorts = false
	if a.Container == nil {
		return
	}
	if !hasMappings {
		mappings = []PortMapping{{Name: "default", Protocol: "tcp"}}
	}
	for len(mappings) < len(defined) {
		mappings = append(mappings, PortMapping{Protocol: "tcp"})
	}
	for i := range mappings {
		if mappings[i].HostPort == nil && a.Mode() == "container/bridge" {
			mappings[i].HostPort = new(int)
		}
	}
	a.Container.PortMappings = &mappings
}

func (o object) portName() string {
	name := o.str("name", "")
	if name != "" && !portNameRE.MatchString(name) {
		o.fail("name", "error.pattern")
	}
	return name
}

// twice tells whether a port is there twice; 0 is any.
func twice(ports []int) bool {
	sorted := slices.Sorted(slices.Values(ports))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] != 0 && sorted[i] == sorted[i-1] {
			return true
		}
	}
	return false
}

func (a *App) readMappings(o object) (mappings []PortMapping, given bool) {
	c, ok := o.object("container")
	if !ok {
		return nil, false
	}
	list, given := c.objects("portMappings")
	if d, ok := c.object("docker"); ok {
		legacy, hasLegacy := d.objects("portMappings")
		if len(list) > 0 && len(legacy) > 0 {
			c.refuse("docker/portMappings", "cannot specify both portMappings and docker.portMappings")
		}
		if len(list) == 0 && hasLegacy {
			list, given = legacy, true
		}
	}
	mappings = []PortMapping{}
	for _, m := range list {
		mapping := PortMapping{
			ContainerPort: m.integer("containerPort", 0, 0, 65535), ServicePort: m.integer("servicePort", 0, 0, 65535),
			Protocol: m.enum("protocol", "tcp", "tcp", "udp", "udp,tcp", "tcp,udp"),
			Name:     m.portName(), Labels: m.stringMap("labels"),
		}
		if m.has("hostPort") {
			port := m.integer("hostPort", 0, 0, 65535)
			mapping.HostPort = &port
		}
		mappings = append(mappings, mapping)
	}
	return mappings, given
}

func (a *App) readStrategies(o object) {
	a.UpgradeStrategy = UpgradeStrategy{1, 1}
	if a.Labels["MARATHON_SINGLE_INSTANCE_APP"] == "true" {
		a.UpgradeStrategy = UpgradeStrategy{}
	}
	if u, ok := o.object("upgradeStrategy"); ok {
		a.UpgradeStrategy.MinimumHealthCapacity = u.float("minimumHealthCapacity", 1, -maxInt)
		a.UpgradeStrategy.MaximumOverCapacity = u.float("maximumOverCapacity", 1, -maxInt)
	}
	if s, ok := o.members["unreachableStrategy"].(string); ok {
		if s != "disabled" {
			o.fail("unreachableStrategy", "error.unknown.enum.literal")
		}
		a.UnreachableStrategy.Disabled = true
	} else if u, ok := o.object("unreachableStrategy"); ok {
		a.UnreachableStrategy.InactiveAfterSeconds = u.integer("inactiveAfterSeconds", 0, 0, maxInt)
		a.UnreachableStrategy.ExpungeAfterSeconds = u.integer("expungeAfterSeconds", 0, 0, maxInt)
	}
}
