package soaconfig

import (
	"regexp"
	"time"
)

// A TestDependency is one entry of test-dependencies.yaml: either another
// service of ours (Service) or an image (Image).
type TestDependency struct {
	Name string

	Service          string `soa:"service"`
	Instance         string `soa:"instance"`
	DeployGroup      string `soa:"deploy_group"`
	Commit           string `soa:"commit"`
	Build            string `soa:"build"`             // path of a local checkout
	WithDependencies bool   `soa:"with_dependencies"` // default true

	Image string            `soa:"image"`
	Port  int               `soa:"port"`
	Cmd   *string           `soa:"cmd"`
	Args  []string          `soa:"args"`
	Env   map[string]string `soa:"env"`
	Tmpfs []string          `soa:"volumes"` // "volumes": container paths
	Files map[string]string `soa:"files"`   // fixture on the host → path in the container
	Ready Ready             `soa:"ready"`
}

// Ready says when a test dependency is up.
type Ready struct {
	HTTP    string        `soa:"http"` // path
	TCP     bool          `soa:"tcp"`
	Cmd     string        `soa:"cmd"`
	Log     string        `soa:"log"`       // regular expression
	Timeout time.Duration `soa:"timeout_s"` // default 60s
}

// readTestDependency makes a test dependency of an entry that fits its shape.
func readTestDependency(e *entry) TestDependency {
	v := e.value
	t := TestDependency{Name: e.name, WithDependencies: true, Env: map[string]string{}, Ready: Ready{Timeout: time.Minute}}
	decode(v, &t)
	switch {
	case !e.fine("service", "image"):
	case t.Service == "" && t.Image == "":
		e.report("wants either service or image")
	case t.Service != "" && t.Image != "":
		e.report("is there together with service: use one of them", "image")
	case t.Service == "":
		for _, key := range []string{"instance", "deploy_group", "commit", "build", "with_dependencies"} {
			if v.has(key) {
				e.report("is only for a service, not for an image", key)
			}
		}
	}
	if v.has("commit") && v.has("build") {
		e.report("is there together with build: use one of them", "commit")
	}
	if t.Cmd != nil && len(t.Args) > 0 {
		e.report("is there together with args: use one of them", "cmd")
	}
	if e.fine("port", "service") && (t.Ready.HTTP != "" || t.Ready.TCP) && t.Service == "" && t.Port == 0 {
		e.report("wants http or tcp, and there is no port", "ready")
	}
	if _, err := regexp.Compile(t.Ready.Log); err != nil {
		e.report("is no regular expression: "+err.Error(), "ready", "log")
	}
	return t
}
