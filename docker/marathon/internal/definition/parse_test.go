package definition_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

func parse(text string) (*definition.App, error) {
	v, err := definition.Decode([]byte(text))
	if err != nil {
		return nil, err
	}
	o, ok := v.(definition.Object)
	if !ok {
		return nil, errors.New("no object")
	}
	return definition.Parse(o, "/")
}

// Every dialect becomes the canonical one.
func TestLegacyInput(t *testing.T) {
	t.Parallel()
	const docker = `"container":{"docker":{"image":"x"%s}%s}`
	app := func(inDocker, inContainer, more string) string {
		return `{"id":"a",` + fmt.Sprintf(docker, inDocker, inContainer) + more + `}`
	}
	tests := map[string]struct{ in, key, want string }{
		"a relative id":                     {`{"id":"a/b","cmd":"run"}`, "id", `"/a/b"`},
		"no ports at all":                   {`{"id":"a","cmd":"run"}`, "portDefinitions", `[{"name":"default","port":0,"protocol":"tcp"}]`},
		"ports":                             {`{"id":"a","cmd":"run","ports":[0,8080]}`, "portDefinitions", `[{"port":0,"protocol":"tcp"},{"port":8080,"protocol":"tcp"}]`},
		"an empty list of ports":            {`{"id":"a","cmd":"run","ports":[]}`, "portDefinitions", `[]`},
		"network HOST":                      {app(`,"network":"HOST"`, ``, ``), "networks", `[{"mode":"host"}]`},
		"network BRIDGE":                    {app(`,"network":"bridge"`, ``, ``), "networks", `[{"mode":"container/bridge"}]`},
		"network USER":                      {app(`,"network":"USER"`, ``, `,"ipAddress":{"networkName":"n"}`), "networks", `[{"mode":"container","name":"n"}]`},
		"only ipAddress":                    {app(``, ``, `,"ipAddress":{"networkName":"n"}`), "networks", `[{"mode":"container","name":"n"}]`},
		"bridge without mappings":           {app(`,"network":"BRIDGE"`, ``, ``), "container.portMappings", `[{"containerPort":0,"hostPort":0,"name":"default","protocol":"tcp","servicePort":0}]`},
		"mappings of docker":                {app(`,"network":"BRIDGE","portMappings":[{"containerPort":80}]`, ``, ``), "container.portMappings", `[{"containerPort":80,"hostPort":0,"protocol":"tcp","servicePort":0}]`},
		"a container network's need none":   {app(``, `,"portMappings":[{"containerPort":80}]`, `,"networks":[{"name":"n"}]`), "container.portMappings", `[{"containerPort":80,"protocol":"tcp","servicePort":0}]`},
		"mappings are padded to the ports":  {app(`,"network":"BRIDGE","portMappings":[{"containerPort":80}]`, ``, `,"ports":[0,0]`), "container.portMappings", `[{"containerPort":80,"hostPort":0,"protocol":"tcp","servicePort":0},{"containerPort":0,"hostPort":0,"protocol":"tcp","servicePort":0}]`},
		"host networking has no mappings":   {app(``, `,"portMappings":[{"containerPort":80}]`, ``), "container.portMappings", `null`},
		"requirePorts needs the host":       {app(`,"network":"BRIDGE"`, ``, `,"requirePorts":true`), "requirePorts", `false`},
		"uris":                              {`{"id":"a","cmd":"run","uris":["http://h/x.tar.gz?y","http://h/z"]}`, "fetch", `[{"cache":false,"executable":false,"extract":true,"uri":"http://h/x.tar.gz?y"},{"cache":false,"executable":false,"extract":false,"uri":"http://h/z"}]`},
		"a health check's port":             {`{"id":"a","cmd":"run","healthChecks":[{}]}`, "healthChecks", `[{"delaySeconds":15,"gracePeriodSeconds":300,"ignoreHttp1xx":false,"intervalSeconds":60,"ipProtocol":"IPv4","maxConsecutiveFailures":3,"portIndex":0,"protocol":"HTTP","timeoutSeconds":20}]`},
		"a constraint in small letters":     {`{"id":"a","cmd":"run","constraints":[["hostname","unique"]]}`, "constraints", `[["hostname","UNIQUE"]]`},
		"unreachable disabled":              {`{"id":"a","cmd":"run","unreachableStrategy":"disabled"}`, "unreachableStrategy", `"disabled"`},
		"null is absent":                    {`{"id":"a","cmd":"run","instances":null,"ports":null}`, "instances", `1`},
		"a check without pause or limit":    {`{"id":"a","cmd":"run","healthChecks":[{"protocol":"TCP","intervalSeconds":0,"timeoutSeconds":0}]}`, "healthChecks", `[{"delaySeconds":15,"gracePeriodSeconds":300,"intervalSeconds":0,"ipProtocol":"IPv4","maxConsecutiveFailures":3,"portIndex":0,"protocol":"TCP","timeoutSeconds":0}]`},
		"what is absent may be empty":       {`{"id":"a","cmd":"run","secrets":{},"check":null,"residency":{}}`, "instances", `1`},
		"a command beside a check of Mesos": {`{"id":"a","cmd":"run","healthChecks":[{"protocol":"MESOS_TCP"},{"protocol":"COMMAND","command":{"value":"x"}}]}`, "instances", `1`},
		"a single instance":                 {`{"id":"a","cmd":"run","labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"}}`, "upgradeStrategy", `{"maximumOverCapacity":0,"minimumHealthCapacity":0}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			var at any = definition.ToObject(a)
			for key := range strings.SplitSeq(tt.key, ".") {
				at = at.(definition.Object)[key]
			}
			got, err := json.Marshal(at)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s of %s:\n%s\nwant\n%s", tt.key, tt.in, got, tt.want)
			}
		})
	}
}

func TestContradictions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ in, path string }{
		"uris and fetch":                {`{"id":"a","cmd":"run","uris":["x"],"fetch":[{"uri":"y"}]}`, "/uris"},
		"two networks":                  {`{"id":"a","container":{"docker":{"image":"x","network":"HOST"}},"networks":[{"mode":"host"}]}`, "/"},
		"network NONE":                  {`{"id":"a","container":{"docker":{"image":"x","network":"NONE"}}}`, "/container/docker/network"},
		"two lists of mappings":         {`{"id":"a","container":{"docker":{"image":"x","network":"BRIDGE","portMappings":[{}]},"portMappings":[{}]}}`, "/container/docker/portMappings"},
		"other ports than definitions":  {`{"id":"a","cmd":"run","ports":[1],"portDefinitions":[{"port":2}]}`, "/"},
		"a bridge with a name":          {`{"id":"a","container":{"docker":{"image":"x"}},"networks":[{"mode":"container/bridge","name":"n"}]}`, "/networks"},
		"a container network without":   {`{"id":"a","container":{"docker":{"image":"x"}},"networks":[{"mode":"container"}]}`, "/networks"},
		"a process off the host":        {`{"id":"a","cmd":"run","networks":[{"mode":"container/bridge"}]}`, "/networks"},
		"a port twice":                  {`{"id":"a","cmd":"run","ports":[80,80]}`, "/"},
		"a port definition twice":       {`{"id":"a","cmd":"run","portDefinitions":[{"port":80},{"port":80}]}`, "/portDefinitions"},
		"a port's name twice":           {`{"id":"a","cmd":"run","portDefinitions":[{"name":"x"},{"name":"x"}]}`, "/portDefinitions"},
		"a mapping's name twice":        {`{"id":"a","container":{"docker":{"image":"x","network":"BRIDGE"},"portMappings":[{"name":"x"},{"name":"x"}]}}`, "/container/portMappings"},
		"no name for a port":            {`{"id":"a","cmd":"run","portDefinitions":[{"name":"A"}]}`, "/portDefinitions(0)/name"},
		"an address and a port":         {`{"id":"a","container":{"docker":{"image":"x","network":"USER"}},"ipAddress":{"networkName":"n"},"ports":[80]}`, "/"},
		"two container networks":        {`{"id":"a","container":{"docker":{"image":"x"}},"networks":[{"name":"a"},{"name":"b"}]}`, "/"},
		"a host network with labels":    {`{"id":"a","cmd":"run","networks":[{"mode":"host","labels":{"a":"b"}}]}`, "/networks"},
		"a network twice":               {`{"id":"a","container":{"docker":{"image":"x"}},"networks":[{"mode":"container/bridge"},{"mode":"host"}]}`, "/networks"},
		"two checks of Mesos":           {`{"id":"a","cmd":"run","healthChecks":[{"protocol":"MESOS_HTTP"},{"protocol":"MESOS_TCP"}]}`, "/"},
		"an unknown role":               {`{"id":"a","cmd":"run","role":"r","acceptedResourceRoles":["*","r","s"]}`, "/acceptedResourceRoles"},
		"no role at all":                {`{"id":"a","cmd":"run","acceptedResourceRoles":[]}`, "/acceptedResourceRoles"},
		"a URI with a blank":            {`{"id":"a","cmd":"run","uris":["x","http://h/a b"]}`, "/uris(1)"},
		"half an escape":                {`{"id":"a","cmd":"run","fetch":[{"uri":"http://h/%2"}]}`, "/fetch(0)/uri"},
		"secrets":                       {`{"id":"a","cmd":"run","secrets":{"a":{"source":"b"}}}`, "/secrets"},
		"a check":                       {`{"id":"a","cmd":"run","check":{"tcp":{"portIndex":0}}}`, "/check"},
		"resources of an executor":      {`{"id":"a","cmd":"run","executorResources":{"cpus":1}}`, "/executorResources"},
		"residency":                     {`{"id":"a","cmd":"run","residency":{"taskLostBehavior":"WAIT_FOREVER"}}`, "/residency"},
		"credentials of a registry":     {`{"id":"a","container":{"docker":{"image":"x","credential":{"principal":"p"}}}}`, "/container/docker/credential"},
		"two of a single instance":      {`{"id":"a","cmd":"run","instances":2,"labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"}}`, "/"},
		"a check of a port that is not": {`{"id":"a","cmd":"run","healthChecks":[{"portIndex":1}]}`, "/healthChecks(0)"},
		"a check without a command":     {`{"id":"a","cmd":"run","healthChecks":[{"protocol":"COMMAND"}]}`, "/healthChecks(0)/command"},
		"a readiness check of no port":  {`{"id":"a","cmd":"run","readinessChecks":[{"portName":"x"}]}`, "/readinessChecks(0)/portName"},
		"a cmd of one letter":           {`{"id":"a","cmd":"x"}`, "/"},
		"inactive after expunged":       {`{"id":"a","cmd":"run","unreachableStrategy":{"inactiveAfterSeconds":2,"expungeAfterSeconds":1}}`, "/unreachableStrategy/inactiveAfterSeconds"},
		"UNIQUE with a value":           {`{"id":"a","cmd":"run","constraints":[["hostname","UNIQUE","x"]]}`, "/constraints(0)"},
		"a bad regular expression":      {`{"id":"a","cmd":"run","constraints":[["hostname","LIKE","("]]}`, "/constraints(0)"},
		"a persistent volume":           {`{"id":"a","cmd":"run","container":{"type":"MESOS","volumes":[{"containerPath":"d","persistent":{"size":1}}]}}`, "/container/volumes(0)/persistent"},
		"an id that ends in restart":    {`{"id":"a/restart","cmd":"run"}`, "/id"},
		"the root":                      {`{"id":"/","cmd":"run"}`, "/id"},
		"no id":                         {`{"cmd":"run"}`, "/id"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tt.in)
			var invalid *definition.InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) != 1 || invalid.Problems[0].Path != tt.path {
				t.Errorf("%s: %v, want one problem at %s", tt.in, err, tt.path)
			}
		})
	}
}

// The canonical form is its own canonical form, and an empty update changes
// nothing.
func TestCanonicalFormIsFixed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(r, name) }
		text := `{"id":"` + pick("id", "a", "/a/b", "a.b-c") + `"` +
			pick("run", `,"cmd":"run"`, `,"container":{"docker":{"image":"x","network":"BRIDGE","portMappings":[{"containerPort":80,"protocol":"udp,tcp","name":"http"}]},"volumes":[{"containerPath":"/d","hostPath":"/d","mode":"ro"}]}`,
				`,"args":["x","y"],"container":{"type":"MESOS","docker":{"image":"x"}}`, `,"container":{"docker":{"image":"x"},"portMappings":[]},"networks":[{"name":"n"}]`) +
			pick("ports", ``, `,"ports":[0]`, `,"ports":[]`) + pick("fetch", ``, `,"uris":["x.zip"]`) +
			pick("checks", ``, `,"healthChecks":[{"protocol":"COMMAND","command":{"value":"x"}}]`) +
			pick("unreachable", ``, `,"unreachableStrategy":"disabled"`, `,"unreachableStrategy":{"expungeAfterSeconds":3}`) +
			pick("grace", ``, `,"taskKillGracePeriodSeconds":0.5`) + pick("env", ``, `,"env":{"a":"<b>"}`) + `}`
		a, err := parse(text)
		if err != nil {
			r.Fatalf("%s: %v", text, err)
		}
		again, err := definition.Parse(definition.ToObject(a), "/")
		if err != nil {
			r.Fatalf("%s once more: %v", text, err)
		}
		if diff := cmp.Diff(a, again); diff != "" {
			r.Errorf("%s once more (-first +second):\n%s", text, diff)
		}
		merged, err := definition.Parse(definition.Merge(a, definition.Object{"ports": nil}), "/")
		if err != nil || !definition.SameConfig(a, merged) {
			r.Errorf("%s after an empty update: %v, %s", text, err, cmp.Diff(a, merged))
		}
		if !definition.SameConfig(a, a.Clone()) {
			r.Errorf("a clone of %s differs", text)
		}
	})
}

func TestMergeTakesOldDialectsForTheirCanonicalKeys(t *testing.T) {
	t.Parallel()
	a, err := parse(`{"id":"a","container":{"docker":{"image":"x","network":"BRIDGE","portMappings":[{"containerPort":80}]}},"uris":["one"]}`)
	if err != nil {
		t.Fatal(err)
	}
	b, err := definition.Parse(definition.Merge(a, definition.Object{
		"uris":      []any{"two"},
		"container": definition.Object{"docker": definition.Object{"image": "y", "network": "HOST"}},
		"ports":     []any{json.Number("9000")},
	}), "/")
	if err != nil {
		t.Fatal(err)
	}
	if b.Mode() != "host" || b.Ports()[0].Port != 9000 || b.Fetch[0].URI != "two" || len(b.Fetch) != 1 || b.Image() != "y" {
		t.Errorf("%+v", b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"id":"a","cmd":"run","ports":[1],"healthChecks":[{}],"constraints":[["a","UNIQUE"]]}`)
	f.Add(`{"id":7,"env":{"a":1},"container":{"docker":[]},"networks":[1],"upgradeStrategy":{"maximumOverCapacity":1e400}}`)
	f.Add(`{"id":"a","instances":1e99,"portDefinitions":[{"port":70000}],"unreachableStrategy":3}`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := parse(text)
		if invalid, ok := errors.AsType[*definition.InvalidError](err); ok {
			for _, p := range invalid.Problems {
				if !strings.HasPrefix(p.Path, "/") || len(p.Errors) == 0 {
					t.Errorf("a problem without a place: %+v", p)
				}
			}
		}
	})
}
