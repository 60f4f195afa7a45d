package marathon_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What Marathon answers to requests that are wrong, or that only its corners
// know. Where the body matters it is a regular expression.
func TestAnswers(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/x","cmd":"sleep 1000","cpus":0.1,"mem":16}`)
	d.post(`{"id":"/stuck","cmd":"sleep 1000","constraints":[["hostname","LIKE","nowhere"]]}`)
	d.running2("/x", 1)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"half a document", "POST", "/v2/apps", `{"id":`, 400, `^{"details":"Unexpected end-of-input","message":"Invalid JSON"}$`},
		{"no document", "POST", "/v2/apps", ``, 400, `"message":"Please specify data in JSON format"`},
		{"a wrong type", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","instances":"two"}`, 422, `"details":\[{"path":"/instances","errors":\["error.expected.jsnumber"\]}\],"message":"Invalid JSON"`},
		{"a value that is too small", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","cpus":0}`, 422, `"path":"/cpus","errors":\["error.min"\]`},
		{"an id that is no text", "POST", "/v2/apps", `{"id":7,"cmd":"sleep 1"}`, 422, `"path":"/id","errors":\["error.expected.jsstring"\]`},
		{"a type deep inside", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","healthChecks":[{"timeoutSeconds":"x"}]}`, 422, `"path":"/healthChecks\(0\)/timeoutSeconds"`},
		{"neither cmd nor args nor container", "POST", "/v2/apps", `{"id":"/a"}`, 422, `"path":"/","errors":\["AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."\]`},
		{"both cmd and args", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","args":["x"]}`, 422, `AppDefinition must either`},
		{"DOCKER without docker", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","container":{"type":"DOCKER"}}`, 422, `"path":"/container/docker","errors":\["not defined"\]`},
		{"an upgrade strategy above 1", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","upgradeStrategy":{"minimumHealthCapacity":1.2}}`, 422, `"path":"/upgradeStrategy/minimumHealthCapacity","errors":\["got 1.2, expected between 0.0 and 1.0"\]`},
		{"an unknown operator", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","constraints":[["hostname","NEAR"]]}`, 422, `"path":"/constraints\(0\)","errors":\["operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS"\]`},
		{"an upper-case id", "POST", "/v2/apps", `{"id":"/A_b","cmd":"sleep 1"}`, 422, `"path":"/id"`},
		{"an unknown option of docker run", "POST", "/v2/apps", `{"id":"/a","container":{"docker":{"image":"x","parameters":[{"key":"frobnicate","value":"1"}]}}}`, 422, `"path":"/container/docker/parameters\(0\)","errors":\["unknown option --frobnicate of docker run"\]`},
		{"an option that takes the container away", "POST", "/v2/apps", `{"id":"/a","container":{"docker":{"image":"x","parameters":[{"key":"rm","value":"true"}]}}}`, 422, `not possible`},
		{"an id that is taken", "POST", "/v2/apps", `{"id":"/x","cmd":"sleep 1"}`, 409, `^{"message":"An app with id \[/x\] already exists."}$`},
		{"a locked app", "PUT", "/v2/apps/stuck", `{"cmd":"sleep 2"}`, 409, `"deployments":\[{"id":"[-0-9a-f]+"}\],"message":"App is locked by one or more deployments. Override with the option '\?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'."`},
		{"below an app", "POST", "/v2/apps", `{"id":"/x/y","cmd":"sleep 1"}`, 422, `"path":"/id"`},
		{"an unknown app", "GET", "/v2/apps/nope", ``, 404, `^{"message":"App '/nope' does not exist"}$`},
		{"an unknown app's restart", "POST", "/v2/apps/nope/restart", ``, 404, `App '/nope' does not exist`},
		{"an unknown group", "GET", "/v2/groups/nope", ``, 404, `^{"message":"Group '/nope' does not exist"}$`},
		{"an unknown task", "DELETE", "/v2/apps/x/tasks/x.y", ``, 404, `^{"message":"Task 'x.y' does not exist"}$`},
		{"an unknown deployment", "DELETE", "/v2/deployments/nope", ``, 404, `^{"message":"DeploymentPlan nope does not exist"}$`},
		{"no delay", "DELETE", "/v2/queue/x/delay", ``, 404, `^{"message":"Application /x not found in tasks queue."}$`},
		{"an unknown version", "GET", "/v2/apps/x/versions/2020-02-01T10:00:00.000Z", ``, 404, `App '/x' does not exist in version 2020-02-01T10:00:00.000Z`},
		{"no version", "GET", "/v2/apps/x/versions/foo", ``, 422, `Invalid timestamp provided 'foo'. Expecting ISO-8601 datetime string.`},
		{"an unknown route", "GET", "/v2/nope", ``, 404, `^{"message":"URI not found: /v2/nope"}$`},
		{"no pods", "HEAD", "/v2/pods", ``, 404, `^$`},
		{"a wrong verb", "DELETE", "/v2/apps", ``, 405, `Method Not Allowed`},
		{"events without their type", "GET", "/v2/events", ``, 405, `Method Not Allowed`},
		{"scale and wipe", "DELETE", "/v2/apps/x/tasks?scale=true&wipe=true", ``, 400, `^{"message":"You cannot use scale and wipe at the same time."}$`},
		{"a bad task id", "POST", "/v2/tasks/delete", `{"ids":["x"]}`, 400, `Invalid task id 'x'`},
		{"unknown tasks are skipped", "POST", "/v2/tasks/delete", `{"ids":["x.unknown"]}`, 200, `^{"tasks":\[\]}$`},
		{"unknown tasks are skipped, with their apps' sizes", "POST", "/v2/tasks/delete?scale=true", `{"ids":["nope.unknown","x.unknown","x.unknown"]}`, 200, `^{"deploymentId":"[-0-9a-f]+","version":"`},
		{"secrets", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","secrets":{"a":{"source":"b"}}}`, 422, `^{"details":\[{"path":"/secrets","errors":\["Feature secrets is not enabled[^"]*"\]}\],"message":"Object is not valid"}$`},
		{"a check", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","check":{"exec":{"command":{"shell":"true"}}}}`, 422, `"path":"/check"`},
		{"an executor's resources", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","executorResources":{"mem":32}}`, 422, `"path":"/executorResources"`},
		{"residency", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","residency":{"relaunchEscalationTimeoutSeconds":1}}`, 422, `"path":"/residency"`},
		{"a registry's credential", "POST", "/v2/apps", `{"id":"/a","container":{"docker":{"image":"x","credential":{"principal":"p"}}}}`, 422, `"path":"/container/docker/credential","errors":\["must be empty"\]`},
		{"in an update, too", "PUT", "/v2/apps/x", `{"secrets":{"a":{"source":"b"}}}`, 422, `"path":"/secrets"`},
		{"two checks of Mesos", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","healthChecks":[{"protocol":"MESOS_HTTP"},{"protocol":"MESOS_TCP"}]}`, 422, `"path":"/","errors":\["AppDefinition can contain at most one Mesos health check"\]`},
		{"an unknown role", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","acceptedResourceRoles":["prod"]}`, 422, `"path":"/acceptedResourceRoles","errors":\["acceptedResourceRoles can only contain \*"\]`},
		{"an invalid URI", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","uris":["http://h/a b"]}`, 422, `"path":"/uris\(0\)","errors":\["URI has invalid syntax."\]`},
		{"an invalid URI to fetch", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","fetch":[{"uri":"http://h/%zz"}]}`, 422, `"path":"/fetch\(0\)/uri"`},
		{"a check all the time", "POST", "/v2/apps", `{"id":"/zero","instances":0,"cmd":"sleep 1","healthChecks":[{"protocol":"TCP","intervalSeconds":0,"timeoutSeconds":0}]}`, 201, `"intervalSeconds":0,"timeoutSeconds":0`},
		{"an empty command", "POST", "/v2/apps", `{"id":"/a","cmd":""}`, 422, `"path":"/cmd","errors":\["error.minLength"\]`},
		{"a command of one letter", "POST", "/v2/apps", `{"id":"/a","cmd":"x"}`, 422, `"path":"/","errors":\["must not be an empty string"\]`},
		{"a bridge with a name", "POST", "/v2/apps", `{"id":"/a","container":{"docker":{"image":"x"}},"networks":[{"mode":"container/bridge","name":"n"}]}`, 422, `"path":"/networks","errors":\["Bridge networks may not have names"\]`},
		{"a port twice", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","portDefinitions":[{"port":80},{"port":80}]}`, 422, `"path":"/portDefinitions","errors":\["Ports must be unique."\]`},
		{"a mapping's name twice", "POST", "/v2/apps", `{"id":"/a","container":{"docker":{"image":"x","network":"BRIDGE"},"portMappings":[{"name":"x"},{"name":"x"}]}}`, 422, `"path":"/container/portMappings","errors":\["Port names must be unique."\]`},
		{"two dialects of networks", "POST", "/v2/apps", `{"id":"/a","container":{"docker":{"image":"x","network":"HOST"}},"networks":[{"mode":"host"}]}`, 422, `"path":"/","errors":\["must not specify both container.docker.network and networks"\]`},
		{"a version of a group together with more", "PUT", "/v2/groups/g", `{"version":"2020-02-01T10:00:00.000Z","apps":[{"id":"x"}]}`, 422, `"path":"/version","errors":\["not allowed in conjunction with other properties."\]`},
		{"a version of a group below", "PUT", "/v2/groups/g", `{"groups":[{"id":"h","version":"2020-02-01T10:00:00.000Z"}]}`, 422, `"path":"/version"`},
		{"a version that a group never had", "PUT", "/v2/groups", `{"version":"2020-02-01T10:00:00.000Z"}`, 422, `^{"message":"Group / not available in version 2020-02-01T10:00:00.000Z"}$`},
		{"no version of a group", "GET", "/v2/groups/versions/foo", ``, 422, `Invalid timestamp provided 'foo'`},
		{"an unknown version of a group", "GET", "/v2/groups/g/versions/2020-02-01T10:00:00.000Z", ``, 404, `Group '/g' does not exist`},
		{"a group that depends on itself", "PUT", "/v2/groups/g", `{"dependencies":["/g"],"apps":[{"id":"a","cmd":"sleep 1"}]}`, 422, `"path":"/","errors":\["Dependency graph has cyclic dependencies\.`},
		{"an app of another group", "PUT", "/v2/groups/g", `{"apps":[{"id":"/h/a","cmd":"sleep 1"}]}`, 422, `"path":"/apps\(0\)/id","errors":\["Identifier is not child of '/g'"\]`},
		{"options", "OPTIONS", "/v2/apps", ``, 200, `^$`},
		{"options of an app that is not", "OPTIONS", "/v2/apps/nope/tasks/x.y", ``, 200, `^$`},
		{"options of nothing", "OPTIONS", "/v2/nope", ``, 404, `URI not found`},
		{"a bad selector", "GET", "/v2/apps?label=a%3D%3D", ``, 422, `Can not parse label selector 'a=='`},
		{"a version together with more", "PUT", "/v2/apps/x", `{"version":"2020-02-01T10:00:00.000Z","instances":2}`, 422, `"path":"/","errors":\["The 'version' field may only be combined with the 'id' field."\]`},
		{"double slashes", "GET", "/v2//apps//x", ``, 200, `"id":"/x"`},
		{"Python's True", "PUT", "/v2/apps//x?force=True", `{}`, 200, `^{"deploymentId":"[-0-9a-f]+","version":"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d.\d\d\dZ"}$`},
		{"a GET with a body", "GET", "/v2/groups", `""`, 200, `"id":"/"`},
		{"null counts as absent", "PUT", "/v2/apps/x?force=true", `{"ports":null,"dependencies":null,"cmd":null}`, 200, `deploymentId`},
		{"ping", "GET", "/ping", ``, 200, `^pong$`},
		{"leader", "GET", "/v2/leader", ``, 200, `^{"leader":"127.0.0.1:\d+"}$`},
		{"a secret", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","env":{"A":{"secret":"b"}}}`, 422, `secrets is not enabled`},
		{"a number in env", "POST", "/v2/apps", `{"id":"/a","cmd":"sleep 1","env":{"A":1}}`, 422, `"path":"/env/A","errors":\["error.expected.jsstring"\]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := d.call(tt.method, tt.path, tt.body, "Content-Type", "application/json")
			if r.status != tt.status || !regexp.MustCompile(tt.want).MatchString(r.body) {
				t.Errorf("%s %s %s: %d %s\nwant %d %s", tt.method, tt.path, tt.body, r.status, r.body, tt.status, tt.want)
			}
		})
	}
	for path, want := range map[string]string{
		"/ping": "GET, HEAD, OPTIONS", "/v2/apps": "GET, HEAD, POST, PUT, PATCH, OPTIONS", "/v2/apps/x": "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
		"/v2/apps/x/restart": "POST, OPTIONS", "/v2/tasks/delete": "POST, OPTIONS", "/v2/leader": "GET, HEAD, DELETE, OPTIONS",
	} {
		if r := d.call("OPTIONS", path, ""); r.status != 200 || r.header.Get("Allow") != want {
			t.Errorf("OPTIONS %s: %d, Allow %q, want %q", path, r.status, r.header.Get("Allow"), want)
		}
	}
	r := d.call("GET", "/", "")
	if r.status != 302 || r.header.Get("Location") != "/ui/" {
		t.Errorf("GET /: %d to %q", r.status, r.header.Get("Location"))
	}
	if r := d.call("GET", "/v2/info", ""); r.header.Get("X-Marathon-Leader") != d.url {
		t.Errorf("X-Marathon-Leader %q, want %s", r.header.Get("X-Marathon-Leader"), d.url)
	}
}

// running2 waits for tasks of one app, whatever else is being deployed.
func (d *daemon) running2(app string, n int) {
	d.t.Helper()
	d.until(20*time.Second, app+" runs", func() bool {
		list := d.tasks(app)
		for _, t := range list {
			if t.State != "TASK_RUNNING" {
				return false
			}
		}
		return len(list) == n
	})
}

// What is posted in an old dialect comes back in the canonical one, with every
// default, integers as integers, and no key that old clients choke on.
func TestCreatedAppIsCanonical(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	r := d.call("POST", "/v2/apps", `{"id":"prod/web","instances":0,"cpus":0.25,"mem":256,"uris":["file:///x/y.tgz","file:///root/.dockercfg"],
		"container":{"type":"docker","docker":{"image":"nginx","network":"BRIDGE","portMappings":[{"containerPort":80}]}},
		"healthChecks":[{"protocol":"http"}],"ports":null,"dependencies":null}`)
	if r.status != 201 || r.header.Get("Marathon-Deployment-Id") == "" || r.header.Get("Location") != "/prod/web" {
		t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	for _, want := range []string{
		`"id":"/prod/web"`, `"networks":[{"mode":"container/bridge"}]`,
		`"portMappings":[{"containerPort":80,"hostPort":0,"servicePort":10000,"protocol":"tcp"}]`,
		`"fetch":[{"uri":"file:///x/y.tgz","extract":true,"executable":false,"cache":false},{"uri":"file:///root/.dockercfg","extract":false,`,
		`"maxLaunchDelaySeconds":300`, `"unreachableStrategy":{"inactiveAfterSeconds":0,"expungeAfterSeconds":0}`, `"portIndex":0`,
		`"docker":{"image":"nginx","forcePullImage":false,"privileged":false,"parameters":[]}`, `"volumes":[]`, `"tasksRunning":0`, `"mem":256,`,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("no %s in\n%s", want, r.body)
		}
	}
	for _, never := range []string{"versionInfo", `"tasks"`, "portDefinitions", "uris", `"ports"`, "tty", "null"} {
		if strings.Contains(r.body, never) {
			t.Errorf("%s in\n%s", never, r.body)
		}
	}
}

func TestVersionsAndRollback(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/v","cmd":"sleep 1001","cpus":0.1,"mem":16}`)
	first := d.running("/v", 1)[0]
	if r := d.call("PUT", "/v2/apps/v", `{"instances":2}`); r.status != 200 {
		t.Fatal(r)
	}
	for _, task := range d.running("/v", 2) {
		if task.ID == first.ID && task.Version != first.Version {
			t.Errorf("a scale changed the version of a task: %+v", task)
		}
	}
	d.call("PUT", "/v2/apps/v", `{"cmd":"sleep 1002"}`)
	d.running("/v", 2)
	var list struct{ Versions []string }
	d.get("/v2/apps/v/versions", &list)
	if len(list.Versions) != 3 || list.Versions[0] < list.Versions[1] {
		t.Fatalf("versions %v, want three, newest first", list.Versions)
	}
	var old struct{ Cmd string }
	d.get("/v2/apps/v/versions/"+list.Versions[2], &old)
	if old.Cmd != "sleep 1001" {
		t.Errorf("first version %+v", old)
	}
	if r := d.call("PUT", "/v2/apps/v", `{"version":"`+list.Versions[1]+`"}`); r.status != 200 {
		t.Fatal(r)
	}
	d.running("/v", 2)
	var now struct {
		App struct {
			Cmd       string
			Instances int
		}
	}
	d.get("/v2/apps/v", &now)
	if now.App.Cmd != "sleep 1001" || now.App.Instances != 2 {
		t.Errorf("after the rollback: %+v", now)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	r := d.call("PUT", "/v2/groups/g", `{"apps":[{"id":"one","cmd":"sleep 1000","cpus":0.1,"mem":16}],"groups":[{"id":"sub","apps":[{"id":"two","cmd":"sleep 1000","cpus":0.1,"mem":16,"dependencies":["../one"]}]}]}`)
	if r.status != 200 {
		t.Fatal(r)
	}
	d.running("/g/one", 1)
	d.running("/g/sub/two", 1)
	var g struct {
		ID     string
		Apps   []struct{ ID string }
		Groups []struct {
			ID   string
			Apps []struct {
				ID           string
				Dependencies []string
			}
		}
	}
	d.get("/v2/groups/g", &g)
	if g.ID != "/g" || len(g.Apps) != 1 || len(g.Groups) != 1 || g.Groups[0].ID != "/g/sub" || g.Groups[0].Apps[0].ID != "/g/sub/two" {
		t.Errorf("%+v", g)
	}
	if r := d.call("PUT", "/v2/groups/g", `{"scaleBy":2}`); r.status != 200 {
		t.Fatal(r)
	}
	d.running("/g/one", 2)
	d.running("/g/sub/two", 2)
	if r := d.call("DELETE", "/v2/groups/g", ""); r.status != 200 {
		t.Fatal(r)
	}
	d.until(20*time.Second, "the group is gone", func() bool { return len(d.tasks("")) == 0 && d.call("GET", "/v2/groups/g", "").status == 404 })
}

// A group goes back to what it was: its apps, those that were deleted, too, its
// groups, and what they depend on. A kill -9 forgets nothing of it.
func TestGroupsGoBack(t *testing.T) {
	t.Parallel()
	d := spawnWithoutDocker(t)
	put := func(id, body string) string {
		t.Helper()
		var got struct{ Version string }
		r := d.call("PUT", "/v2/groups/"+id, body)
		if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 {
			t.Fatalf("PUT %s: %+v, %v", body, r, err)
		}
		d.until(20*time.Second, "it is deployed", func() bool { return d.call("GET", "/v2/deployments", "").body == "[]" })
		return got.Version
	}
	const one = `{"id":"one","cmd":"sleep 1001","cpus":0.1,"mem":16}`
	other := put("other", `{}`)
	first := put("g", `{"dependencies":["../base"],"apps":[`+one+`],"groups":[{"id":"sub","apps":[`+strings.Replace(one, "one", "two", 1)+`]}]}`)
	second := put("g", `{"dependencies":[],"apps":[`+strings.Replace(one, "1001", "1002", 1)+`],"groups":[]}`)
	d.kill()
	d.begin()
	if r := d.call("GET", "/v2/groups/g/versions", ""); r.body != `["`+second+`","`+first+`"]` {
		t.Errorf("versions %s", r.body)
	}
	if r := d.call("GET", "/v2/groups/versions", ""); r.body != `["`+second+`","`+first+`","`+other+`"]` {
		t.Errorf("versions of the root %s", r.body)
	}
	was := d.call("GET", "/v2/groups/g/versions/"+first, "").body
	for _, want := range []string{`"dependencies":["/base"]`, `"id":"/g/sub/two"`, `"cmd":"sleep 1001"`, `"version":"` + first} {
		if !strings.Contains(was, want) {
			t.Errorf("no %s in\n%s", want, was)
		}
	}
	steps := d.call("PUT", "/v2/groups/g?dryRun=true", `{"version":"`+first+`"}`)
	const want = `{"steps":[{"actions":[{"action":"StartApplication","app":"/g/sub/two"}]},{"actions":[{"action":"RestartApplication","app":"/g/one"},{"action":"ScaleApplication","app":"/g/sub/two"}]}]}`
	if steps.body != want {
		t.Errorf("steps %s\nwant  %s", steps.body, want)
	}
	third := put("g", `{"version":"`+first+`"}`)
	d.running("/g/sub/two", 1)
	now := d.call("GET", "/v2/groups/g", "").body
	for _, want := range []string{`"dependencies":["/base"]`, `"id":"/g/sub/two"`, `"cmd":"sleep 1001"`, `"version":"` + third} {
		if !strings.Contains(now, want) {
			t.Errorf("no %s in\n%s", want, now)
		}
	}
	put("g", `{"version":"`+second+`"}`)
	if n := len(d.tasks("/g/sub/two")); n != 0 || d.call("GET", "/v2/groups/g/sub", "").status != 404 {
		t.Errorf("%d tasks of what was not there", n)
	}
}

func TestTaskListsForScripts(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/a/b","cmd":"sleep 1000","cpus":0.1,"mem":16,"instances":2,"ports":[0,0]}`)
	d.post(`{"id":"/c","cmd":"sleep 1000","cpus":0.1,"mem":16,"ports":[]}`)
	list := d.running("/a/b", 2)
	c := d.running("/c", 1)[0]
	lines := ""
	for i := range 2 {
		var at []string
		for _, one := range list {
			at = append(at, fmt.Sprintf("%s:%d", one.Host, one.Ports[i]))
		}
		slices.Sort(at)
		lines += fmt.Sprintf("a_b\t%d\t%s\t\n", 10000+i, strings.Join(at, "\t"))
	}
	for path, want := range map[string]string{"/v2/tasks": lines + "c\t \t" + c.Host + "\t\n", "/v2/apps/a/b/tasks": lines} {
		if r := d.call("GET", path, "", "Accept", "text/plain"); r.body != want || r.header.Get("Content-Type") != "text/plain" {
			t.Errorf("%s: %s\n%q, want\n%q", path, r.header.Get("Content-Type"), r.body, want)
		}
		for _, accept := range []string{"*/*", "text/plain, application/json"} {
			if r := d.call("GET", path, "", "Accept", accept); !strings.HasPrefix(r.body, `{"tasks":[`) {
				t.Errorf("%s for %s: %s", path, accept, r.body)
			}
		}
	}
	if r := d.call("GET", "/v2/apps/nope/tasks", "", "Accept", "text/plain"); r.status != 404 {
		t.Errorf("tasks of nobody: %+v", r)
	}
}

func TestMetricsHaveMarathonsNames(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/g/x","cmd":"sleep 1000","cpus":0.1,"mem":16}`)
	d.running("/g/x", 1)
	var got struct {
		Version  string
		Counters map[string]struct{ Count int }
		Gauges   map[string]struct{ Value float64 }
	}
	d.get("/metrics", &got)
	for name, want := range map[string]int{"marathon.deployments.counter": 1, "marathon.deployments.dismissed.counter": 0, "marathon.tasks.launched.counter": 1, "marathon.mesos.task-updates.task-running.counter": 1} {
		if c, ok := got.Counters[name]; !ok || c.Count != want {
			t.Errorf("%s %v %v, want %d", name, ok, c, want)
		}
	}
	for name, want := range map[string]float64{"marathon.apps.active.gauge": 1, "marathon.groups.active.gauge": 2, "marathon.instances.running.gauge": 1, "marathon.instances.staged.gauge": 0} {
		if g, ok := got.Gauges[name]; !ok || g.Value != want {
			t.Errorf("%s %v %v, want %v", name, ok, g, want)
		}
	}
	if r := d.call("GET", "/metrics/prometheus", ""); !strings.Contains(r.body, "# TYPE marathon_apps_active_gauge gauge\nmarathon_apps_active_gauge 1\n\n") || !strings.Contains(r.body, "\nmarathon_tasks_launched_counter 1\n") {
		t.Errorf("for Prometheus: %s", r.body)
	}
}

// Appendix: a document of every version of Marathon's own examples.
func TestQueueShowsWhyNothingStarts(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/big","cmd":"sleep 1000","cpus":1000}`)
	var queue struct {
		Queue []struct {
			Count                  int
			Delay                  struct{ Overdue bool }
			App                    struct{ ID string }
			ProcessedOffersSummary struct {
				RejectSummaryLastOffers []struct {
					Reason              string
					Declined, Processed int
				}
			}
			LastUnusedOffers []json.RawMessage
		}
	}
	d.get("/v2/queue?embed=lastUnusedOffers", &queue)
	if len(queue.Queue) != 1 || queue.Queue[0].Count != 1 || !queue.Queue[0].Delay.Overdue || len(queue.Queue[0].LastUnusedOffers) != 3 {
		t.Fatalf("%+v", queue)
	}
	for _, r := range queue.Queue[0].ProcessedOffersSummary.RejectSummaryLastOffers {
		switch r.Reason {
		case "InsufficientCpus":
			if r.Declined != 3 || r.Processed != 3 {
				t.Errorf("%+v", r)
			}
		case "InsufficientMemory":
			if r.Processed != 0 {
				t.Errorf("%+v: nothing came as far as this", r)
			}
		}
	}
	d.call("DELETE", "/v2/apps/big", "")
}
