package marathon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/marathon"
	"github.com/gopaasta/paasta/paasta"
	client "github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// Everything that needs containers, on one engine.
func TestContainers(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	e := dockertest.Start(t)
	e.Build("probe:1", dockertest.Probe)
	d := spawn(t, "127.0.0.1:8080", "--agents", "3", "--docker-host", e.Host)
	app := func(id, more string) string {
		return fmt.Sprintf(`{"id":%q,"cpus":0.1,"mem":64,"container":{"docker":{"image":"probe:1","network":"BRIDGE",
			"portMappings":[{"containerPort":8888}],"parameters":[{"key":"init","value":"true"},{"key":"memory-swap","value":"128m"},
			{"key":"label","value":"paasta_service=probe"},{"key":"cap-drop","value":"MKNOD"},{"key":"ulimit","value":"nofile=1024:2048"}]}},
			"healthChecks":[{"protocol":"MESOS_HTTP","path":"/status","portIndex":0,"gracePeriodSeconds":10,"intervalSeconds":1,"timeoutSeconds":1,"maxConsecutiveFailures":2}]%s}`, id, more)
	}

	t.Run("are published on their agents' addresses and are quickly healthy", func(t *testing.T) {
		d.post(app("/web", `,"instances":3,"constraints":[["hostname","UNIQUE"]]`))
		d.running("/web", 3)
		d.until(10*time.Second, "all three are alive", func() bool { return d.alive("/web") == 3 })
		var hosts []string
		for _, task := range d.tasks("/web") {
			hosts = append(hosts, task.Host)
			fetch(t, task, "/status")
		}
		slices.Sort(hosts)
		if got := strings.Join(hosts, " "); got != "10.77.1.1 10.77.2.1 10.77.3.1" {
			t.Errorf("on %s", got)
		}
		if n := len(e.Containers("MESOS_TASK_ID", "paasta_service=probe")); n != 3 {
			t.Errorf("%d containers with our labels, want 3", n)
		}
		local, err := marathon.LocalTasks(t.Context(), d.url)
		if err != nil || len(local) != 3 || local[0].Port == 0 || local[0].AppID != "/web" {
			t.Errorf("local tasks %+v, %v", local, err)
		}
		d.call("DELETE", "/v2/apps/web", "")
	})

	t.Run("outlive kill -9 of paasta marathon and go on as the same tasks", func(t *testing.T) {
		d.post(app("/stays", `,"instances":2`))
		before := ids(d.running("/stays", 2))
		containers := e.Containers("paasta.marathon.app=/stays")
		d.kill()
		d.begin()
		d.until(10*time.Second, "both are healthy again", func() bool { return d.alive("/stays") == 2 })
		if after := ids(d.tasks("/stays")); after != before {
			t.Errorf("tasks %s became %s", before, after)
		}
		if now := e.Containers("paasta.marathon.app=/stays"); !slices.Equal(now, containers) {
			t.Errorf("containers %v became %v", containers, now)
		}
	})

	t.Run("are unreachable while the engine is down, not failed", func(t *testing.T) {
		before := d.tasks("/stays")
		e.Kill()
		d.until(10*time.Second, "it is noticed", func() bool {
			for _, task := range d.tasks("/stays") {
				if task.State != "TASK_UNREACHABLE" {
					return false
				}
			}
			return true
		})
		fetch(t, before[0], "/status") // traffic goes on
		if _, err := http.Get(fmt.Sprintf("http://%s:%d/exit?code=4", before[1].Host, before[1].Ports[0])); err == nil {
			t.Error("it answered its own end")
		}
		e.Restart()
		d.until(20*time.Second, "one is as before and the other replaced", func() bool {
			list := d.tasks("/stays")
			return len(list) == 2 && list[0].State == "TASK_RUNNING" && list[1].State == "TASK_RUNNING" &&
				strings.Contains(ids(list), before[0].ID) && !strings.Contains(ids(list), before[1].ID)
		})
		var got struct {
			App struct {
				LastTaskFailure struct{ TaskID, Message string }
			}
		}
		d.get("/v2/apps/stays", &got)
		if f := got.App.LastTaskFailure; f.TaskID != before[1].ID ||
			!strings.Contains(f.Message, "status 4") && f.Message != "Container ended while the engine was down, its exit code is lost" { // Docker from 25 on
			t.Errorf("last failure %+v", f)
		}
		d.call("DELETE", "/v2/apps/stays", "")
	})

	t.Run("roll to a new version with enough of them healthy", func(t *testing.T) {
		d.post(app("/rolls", `,"instances":2,"env":{"VERSION":"1"},"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":0.5}`))
		d.running("/rolls", 2)
		d.call("PUT", "/v2/apps/rolls", `{"env":{"VERSION":"2"}}`)
		d.until(20*time.Second, "it is done", func() bool {
			good := 0
			for _, task := range d.tasks("/rolls") {
				if task.State == "TASK_RUNNING" && len(task.HealthCheckResults) == 1 && task.HealthCheckResults[0].Alive {
					good++
				}
			}
			if good < 2 {
				t.Fatalf("only %d are healthy", good)
			}
			return d.call("GET", "/v2/deployments", "").body == "[]"
		})
		for _, task := range d.running("/rolls", 2) {
			var answer struct{ Version string }
			if err := json.Unmarshal([]byte(fetch(t, task, "/")), &answer); err != nil || answer.Version != "2" {
				t.Errorf("version %q, %v", answer.Version, err)
			}
		}
	})

	t.Run("say what they print", func(t *testing.T) {
		one := d.tasks("/rolls")[0]
		fetch(t, one, "/print?text=hello")
		fetch(t, one, "/print?text=oops&to=stderr")
		d.until(5*time.Second, "it is there", func() bool {
			r := d.call("GET", "/paasta/tasks/"+one.ID+"/logs?lines=10", "")
			return strings.Contains(r.body, `"stream":"stdout","message":"hello"`) && strings.Contains(r.body, `"stream":"stderr","message":"oops"`)
		})
		if r := d.call("GET", "/paasta/tasks/rolls.unknown/logs", ""); r.status != 404 {
			t.Errorf("logs of nobody: %+v", r)
		}
	})

	t.Run("are killed when their health check fails", func(t *testing.T) {
		one := d.tasks("/rolls")[0]
		fetch(t, one, "/fail")
		d.until(15*time.Second, "it is replaced", func() bool {
			list := d.tasks("/rolls")
			return len(list) == 2 && !strings.Contains(ids(list), one.ID) && list[1].State == "TASK_RUNNING"
		})
		d.call("DELETE", "/v2/apps/rolls", "")
	})

	t.Run("are replaced when somebody removes them", func(t *testing.T) {
		d.post(app("/removed", ""))
		one := d.running("/removed", 1)[0]
		id := e.Containers("MESOS_TASK_ID=" + one.ID)[0]
		if out, err := exec.Command("docker", "-H", e.Host, "rm", "-f", id).CombinedOutput(); err != nil {
			t.Fatalf("docker rm: %v\n%s", err, out)
		}
		d.until(15*time.Second, "there is another", func() bool {
			list := d.tasks("/removed")
			return len(list) == 1 && list[0].ID != one.ID && list[0].State == "TASK_RUNNING"
		})
		d.call("DELETE", "/v2/apps/removed", "")
	})

	t.Run("that cannot start are failed with the reason", func(t *testing.T) {
		d.post(`{"id":"/bad","cpus":0.1,"mem":64,"cmd":"there is no shell","container":{"docker":{"image":"probe:1"}}}`)
		d.post(`{"id":"/none","cpus":0.1,"mem":64,"container":{"docker":{"image":"127.0.0.1:1/none:1"}}}`)
		for id, want := range map[string]string{"/bad": "Failed to run docker container: ", "/none": "Failed to launch container: pull 127.0.0.1:1/none:1: "} {
			var got struct {
				App struct{ LastTaskFailure struct{ Message string } }
			}
			d.until(20*time.Second, id+" has failed", func() bool {
				d.get("/v2/apps"+id, &got)
				return got.App.LastTaskFailure.Message != ""
			})
			if !strings.HasPrefix(got.App.LastTaskFailure.Message, want) {
				t.Errorf("%s: %q, want %q…", id, got.App.LastTaskFailure.Message, want)
			}
			d.call("DELETE", "/v2/apps"+id, "")
		}
	})

	t.Run("use the host's network when they ask for it", func(t *testing.T) {
		d.post(`{"id":"/host","cpus":0.1,"mem":64,"args":["port0"],"container":{"docker":{"image":"probe:1","network":"HOST"}},"portDefinitions":[{"port":0}],
			"healthChecks":[{"protocol":"TCP","gracePeriodSeconds":10,"intervalSeconds":1}]}`)
		fetch(t, d.running("/host", 1)[0], "/status")
		d.call("DELETE", "/v2/apps/host", "")
	})
	t.Run("join a Docker network by its name", func(t *testing.T) {
		const name = "Overlay.a"
		d.post(strings.NewReplacer("BRIDGE", "USER", "8888}", `8888,"hostPort":0}`).Replace(app("/net", `,"ipAddress":{"networkName":"`+name+`"}`)))
		var got struct {
			App struct{ LastTaskFailure struct{ Message string } }
		}
		d.until(20*time.Second, "it has failed", func() bool {
			d.get("/v2/apps/net", &got)
			return got.App.LastTaskFailure.Message != ""
		})
		if m := got.App.LastTaskFailure.Message; !strings.HasSuffix(m, "network "+name+" not found (docker network create "+name+" makes one)") {
			t.Errorf("without the network: %q", m)
		}
		if out, err := exec.Command("docker", "-H", e.Host, "network", "create", name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		one := d.running("/net", 1)[0]
		d.until(10*time.Second, "it is alive", func() bool { return d.alive("/net") == 1 })
		fetch(t, one, "/status")
		id := e.Containers("MESOS_TASK_ID=" + one.ID)[0]
		if out, err := exec.Command("docker", "-H", e.Host, "inspect", "-f", "{{json .NetworkSettings.Networks}}", id).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), `{"`+name+`":`) {
			t.Errorf("networks %s, %v", out, err)
		}
		d.call("DELETE", "/v2/apps/net", "")
	})
	d.until(20*time.Second, "all is gone", func() bool { return len(d.tasks("")) == 0 })
	for _, address := range []string{"10.77.1.1", "10.77.3.1"} {
		if out, err := exec.Command("ip", "addr", "show", "lo").CombinedOutput(); err != nil || !strings.Contains(string(out), address) {
			t.Errorf("%s is not on lo: %s, %v", address, out, err)
		}
	}
}

func fetch(t *testing.T, of task, path string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", of.Host, of.Ports[0], path), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", req.URL, resp.Status, err)
	}
	return string(text)
}

// What tasks have said is kept when they have ended: each of a crash loop, and
// those of the version before, whatever becomes of their containers.
func TestOutputOfEndedContainers(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	e := dockertest.Start(t)
	e.Build("probe:1", dockertest.Probe)
	d := spawn(t, freeAddress(t), "--docker-host", e.Host)
	c, err := client.New(client.Options{URLs: []string{d.url}})
	if err != nil {
		t.Fatal(err)
	}
	const service = "web"
	app := func(id, args string) string {
		return fmt.Sprintf(`{"id":"/web.main.%s","cpus":0.1,"mem":64,"args":[%s],"container":{"docker":{"image":"probe:1","network":"BRIDGE","portMappings":[{"containerPort":8888}]}},
			"labels":{"paasta_service":%q,"paasta_instance":"main","paasta_git_sha":"abc"},"backoffSeconds":0.1,"backoffFactor":1,"maxLaunchDelaySeconds":1}`, id, args, service)
	}
	ended := func(id string) (of []client.Ended) {
		t.Helper()
		list, err := c.Ended(t.Context(), paasta.InstanceID{Service: service, Instance: "main"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.AppID == "web.main."+id {
				of = append(of, e)
			}
		}
		return of
	}
	said := func(task string) string {
		t.Helper()
		var text strings.Builder
		if err := c.TaskLogs(t.Context(), task, 100, false, func(stream string, _ time.Time, line string) error {
			text.WriteString(stream + ": " + line + "\n")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	removeContainers := func(of string) {
		t.Helper()
		for _, id := range e.Containers("paasta.marathon.app=/web.main." + of) {
			if out, err := exec.Command("docker", "-H", e.Host, "rm", "-f", id).CombinedOutput(); err != nil && !strings.Contains(string(out), "already in progress") && !strings.Contains(string(out), "No such container") {
				t.Fatalf("docker rm: %v\n%s", err, out)
			}
		}
	}
	check := func(when string, of client.Ended, state, message string, code int, words string) {
		t.Helper()
		if of.State != state || of.Message != message || of.ExitCode == nil || *of.ExitCode != code || of.GitSHA != "abc" || of.Ended.Before(of.Started) {
			t.Errorf("%s: %+v", when, of)
		}
		if got := said(of.ID); !strings.Contains(got, words) {
			t.Errorf("%s: it said %q, want %q", when, got, words)
		}
	}

	d.post(app("before", ""))
	before := d.running("/web.main.before", 1)[0]
	fetch(t, before, "/print?text=of+the+version+before")
	d.call("DELETE", "/v2/apps/web.main.before", "")
	d.until(20*time.Second, "its output is kept", func() bool { return len(ended("before")) == 1 })
	d.post(app("crashes", `"-nodb"`))
	d.until(60*time.Second, "it has crashed often", func() bool { return len(ended("crashes")) >= 6 })
	d.call("PUT", "/v2/apps/web.main.crashes", `{"instances":0}`)
	d.running("/web.main.crashes", 0)

	d.post(app("meanwhile", ""))
	meanwhile := d.running("/web.main.meanwhile", 1)[0]
	d.kill()
	if _, err := http.Get(fmt.Sprintf("http://%s:%d/exit?code=4", meanwhile.Host, meanwhile.Ports[0])); err == nil {
		t.Error("it answered its own end")
	}
	d.begin()
	d.until(20*time.Second, "what ended meanwhile is kept", func() bool { return len(ended("meanwhile")) == 1 })
	d.call("DELETE", "/v2/apps/web.main.meanwhile", "")

	for _, app := range []string{"before", "crashes", "meanwhile"} {
		removeContainers(app)
	}
	check("the version before", ended("before")[0], "TASK_KILLED", "Container exited with status 0", 0, "stdout: of the version before\n")
	for _, one := range ended("crashes") {
		check("a crash", one, "TASK_FAILED", "Container exited with status 2", 2, "stderr: flag provided but not defined: -nodb\n")
	}
	check("meanwhile", ended("meanwhile")[0], "TASK_FAILED", "Container exited with status 4", 4, "stdout: listening on :8888\n")
	if r := d.call("POST", "/paasta/tasks", "{}"); r.status != 405 {
		t.Errorf("POST: %+v", r)
	}
}
