package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
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

// legacy is what older clients send in place of canonical members, and what
// paasta marathon has not.
type legacy struct {
	URIs      []string `json:"uris"`
	Ports     []int    `json:"ports" max:"65535"`
	IPAddress *struct {
		NetworkName string `json:"networkName"`
	} `json:"ipAddress"`
	Container struct {
		Docker struct {
			Network      string         `json:"network" enum:"HOST|BRIDGE|USER|NONE"`
			PortMappings *[]PortMapping `json:"portMappings"`
			Credential   unsupported    `json:"credential" refuse:"must be empty"`
			PullConfig   unsupported    `json:"pullConfig" refuse:"pullConfig is not supported with Docker containerizer"`
		} `json:"docker"`
		Volumes []struct {
			Persistent unsupported `json:"persistent" refuse:"Feature persistent volumes is not enabled: paasta marathon has host volumes only"`
			External   unsupported `json:"external" refuse:"Feature external volumes is not enabled: paasta marathon has host volumes only"`
			Secret     unsupported `json:"secret" refuse:"Feature secret volumes is not enabled: paasta marathon has host volumes only"`
		} `json:"volumes"`
		LinuxInfo unsupported `json:"linuxInfo" refuse:"Feature linuxInfo is not enabled: container.docker.parameters has the options of docker run"`
	} `json:"container"`
	Secrets           unsupported `json:"secrets" refuse:"Feature secrets is not enabled: paasta marathon keeps no secrets"`
	Check             unsupported `json:"check" refuse:"Feature check is not enabled: paasta marathon runs healthChecks and readinessChecks"`
	ExecutorResources unsupported `json:"executorResources" refuse:"Feature executorResources is not enabled: paasta marathon has no executors"`
	Residency         unsupported `json:"residency" refuse:"Feature residency is not enabled: paasta marathon has no persistent volumes"`
	ResourceLimits    unsupported `json:"resourceLimits" refuse:"Feature resourceLimits is not enabled: paasta marathon limits memory to mem, and cpus not at all"`
}

// Parse makes the canonical form of a decoded definition in any dialect, with
// every default filled in, and checks it. base is the group that relative ids
// are seen from. The error is an *InvalidError.
func Parse(in Object, base string) (*App, error) {
	var r reader
	var a App
	var old legacy
	r.read("", in, reflect.ValueOf(&a).Elem(), "")
	r.read("", in, reflect.ValueOf(&old).Elem(), "")
	if len(r.wrong) > 0 {
		return nil, &InvalidError{"Invalid JSON", r.wrong}
	}
	if a.ID != "" {
		a.ID = ResolveID(a.ID, base)
	}
	for i, d := range a.Dependencies {
		a.Dependencies[i] = ResolveID(d, path.Dir(a.ID))
	}
	for _, c := range a.Constraints {
		if len(c) > 1 {
			c[1] = strings.ToUpper(c[1])
		}
	}
	if a.AcceptedResourceRoles != nil && len(a.AcceptedResourceRoles) == 0 {
		r.refused.add("/acceptedResourceRoles", "must not be empty")
	}
	if a.Labels[single] == "true" && in["upgradeStrategy"] == nil {
		a.UpgradeStrategy = UpgradeStrategy{}
	}
	a.completeFetch(old, &r.refused)
	a.completeNetworks(old, &r.refused)
	a.completePorts(old, &r.refused)
	a.completeChecks()
	if len(r.refused) == 0 {
		a.check(&r.refused)
	}
	if len(r.refused) > 0 {
		return nil, &InvalidError{"Object is not valid", r.refused}
	}
	return &a, nil
}

var archives = []string{".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip"}

func (a *App) completeFetch(old legacy, refused *problems) {
	list := "fetch"
	if len(old.URIs) > 0 {
		list = "uris"
		if len(a.Fetch) > 0 {
			refused.add("/uris", "may not be set in conjunction with fetch")
			return
		}
	}
	for _, uri := range old.URIs {
		file, _, _ := strings.Cut(uri, "?")
		extract := slices.ContainsFunc(archives, func(suffix string) bool { return strings.HasSuffix(file, suffix) })
		a.Fetch = append(a.Fetch, Fetch{URI: uri, Extract: extract})
	}
	for i, f := range a.Fetch {
		at := "/" + index(list, i)
		if list == "fetch" {
			at += "/uri"
		}
		if _, err := url.Parse(f.URI); err != nil || strings.ContainsAny(f.URI, ` "<>\^`+"`{|}") {
			refused.add(at, "URI has invalid syntax.")
		}
	}
}

func (a *App) completeNetworks(old legacy, refused *problems) {
	network := old.Container.Docker.Network
	switch {
	case len(a.Networks) > 0 && network != "":
		refused.add("/", "must not specify both container.docker.network and networks")
	case len(a.Networks) > 0 && old.IPAddress != nil:
		refused.add("/", "must not specify both networks and ipAddress")
	case len(a.Networks) > 0:
	case network == "BRIDGE":
		a.Networks = []Network{{Mode: "container/bridge"}}
	case network == "USER" || old.IPAddress != nil && network == "":
		a.Networks = []Network{{Mode: "container"}}
		if old.IPAddress != nil {
			a.Networks[0].Name = old.IPAddress.NetworkName
		}
	case network == "NONE":
		refused.add("/container/docker/network", "network NONE is not supported")
	default:
		a.Networks = []Network{{Mode: "host"}}
	}
}

func (a *App) completePorts(old legacy, refused *problems) {
	defined, given := a.Ports(), a.PortDefinitions != nil
	if given && len(old.Ports) > 0 && !slices.EqualFunc(old.Ports, defined, func(port int, d PortDefinition) bool { return port == d.Port }) {
		refused.add("/", "cannot specify both ports and port definitions")
	}
	if twice(old.Ports) {
		refused.add("/", "ports must be unique")
	}
	if old.IPAddress != nil && len(old.Ports)+len(defined) > 0 {
		refused.add("/", "cannot specify both an IP address and port")
	}
	for _, p := range old.Ports {
		if !given {
			defined = append(defined, PortDefinition{Port: p, Protocol: "tcp"})
		}
	}
	if c := a.Container; c != nil {
		if former := old.Container.Docker.PortMappings; len(a.Mappings()) == 0 && former != nil {
			c.PortMappings = former
		} else if former != nil && len(*former) > 0 {
			refused.add("/container/docker/portMappings", "cannot specify both portMappings and docker.portMappings")
		}
	}
	if a.Mode() == "host" {
		if !given && old.Ports == nil {
			defined = []PortDefinition{{Protocol: "tcp", Name: "default"}}
		}
		defined = append([]PortDefinition{}, defined...)
		a.PortDefinitions = &defined
		if a.Container != nil {
			a.Container.PortMappings = nil
		}
		return
	}
	a.RequirePorts, a.PortDefinitions = false, nil
	if a.Container == nil {
		return
	}
	if a.Container.PortMappings == nil {
		a.Container.PortMappings = &[]PortMapping{{Name: "default", Protocol: "tcp"}}
	}
	mappings := a.Container.PortMappings
	for len(*mappings) < len(defined) {
		*mappings = append(*mappings, PortMapping{Protocol: "tcp"})
	}
	for i := range *mappings {
		if m := &(*mappings)[i]; m.HostPort == nil && a.Mode() == "container/bridge" {
			m.HostPort = new(int)
		}
	}
}

func (a *App) completeChecks() {
	for i := range a.HealthChecks {
		h := &a.HealthChecks[i]
		switch h.Protocol {
		case "COMMAND":
			h.Path, h.Port, h.PortIndex, h.IgnoreHTTP1xx, h.IPProtocol = "", nil, nil, nil, ""
			continue
		case "HTTP", "HTTPS":
			if h.IgnoreHTTP1xx == nil {
				h.IgnoreHTTP1xx = new(bool)
			}
		default:
			h.IgnoreHTTP1xx = nil
		}
		if h.Port == nil && h.PortIndex == nil && a.NumPorts() > 0 {
			h.PortIndex = new(int)
		}
	}
	for i := range a.ReadinessChecks {
		if r := &a.ReadinessChecks[i]; len(r.HTTPStatusCodesForReady) == 0 {
			r.HTTPStatusCodesForReady = []int{200}
		}
	}
}

func index(key string, i int) string { return key + "(" + strconv.Itoa(i) + ")" }

// twice tells whether a port is there twice; 0 is any.
func twice(ports []int) bool {
	seen := map[int]bool{}
	for _, p := range ports {
		if seen[p] && p != 0 {
			return true
		}
		seen[p] = true
	}
	return false
}
