package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

func TestOneTask(t *testing.T) {
	t.Parallel()
	task := func(id, host, state string) api.Task {
		return api.Task{ID: "web.main.git1.config1." + id, Host: host, State: state}
	}
	status := []api.InstanceStatus{{Versions: []api.Version{
		{Tasks: []api.Task{task("bbb", "h2", "TASK_RUNNING"), task("ccc", "h3", "TASK_STAGING")}},
		{Tasks: []api.Task{task("aaa", "h1", "TASK_RUNNING")}},
	}}}
	for name, tt := range map[string]struct {
		choice taskChoice
		guess  bool
		want   string // the id's end; "" for an error
		err    string
	}{
		"any":                     {taskChoice{}, true, "aaa", ""},
		"any, and must not guess": {taskChoice{}, false, "", "2 tasks run"},
		"on a host":               {taskChoice{host: "h2"}, false, "bbb", ""},
		"by id":                   {taskChoice{id: "bbb"}, false, "bbb", ""},
		"on another host":         {taskChoice{host: "h3"}, true, "", "no running task is on that host"},
		"one that does not run":   {taskChoice{id: "ccc"}, true, "", "no running task"},
	} {
		got, err := oneTask(status, tt.choice, tt.guess, func(string, ...any) {})
		if (err == nil) != (tt.want != "") || err == nil && !strings.HasSuffix(got.ID, tt.want) || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got.ID, err, tt.want, tt.err)
		}
	}
	if _, err := oneTask(nil, taskChoice{}, true, nil); err == nil {
		t.Error("no task, and no error")
	}
}

// Containers as paasta marathon and as Mesos make them, looked into through the
// engine's socket and through ssh.
func TestDockerCommands(t *testing.T) {
	if !paastatest.ParallelInNamespace(t) {
		return
	}
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	client := paastatest.Need(t, "docker")
	engine := dockertest.Start(t)
	engine.BuildFiles("box:1", map[string][]byte{"busybox": busybox}, "FROM scratch", "COPY busybox /bin/sh", "COPY busybox /bin/busybox")
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(client, append([]string{"-H", engine.Host}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	const labelled, mesos, gone = "web.main.git1.config1.aaa", "web.main.git1.config1.bbb", "web.main.git1.config1.ccc"
	docker("run", "-d", "--name", "labelled", "--label", "MESOS_TASK_ID="+labelled, "box:1", "/bin/busybox", "sleep", "1000")
	docker("run", "-d", "--name", "mesos", "--label", "paasta_service=web", "--label", "paasta_instance=main", "-e", "MESOS_TASK_ID="+mesos, "box:1", "/bin/busybox", "sleep", "1000")

	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s := api.InstanceStatus{Service: "web", Instance: "main", Versions: []api.Version{{Tasks: []api.Task{
			{ID: labelled, Host: "h1", State: "TASK_RUNNING"}, {ID: mesos, Host: "h2", State: "TASK_RUNNING"}, {ID: gone, Host: "h3", State: "TASK_RUNNING"},
		}}}}
		_ = json.NewEncoder(w).Encode(s)
	}))
	defer answers.Close()
	soa := t.TempDir()
	if err := os.Mkdir(filepath.Join(soa, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	paasta := func(in string, args ...string) said {
		t.Helper()
		var out, errs lockedBuffer
		env := &Env{
			In: strings.NewReader(in), Out: &out, Err: &errs, Now: time.Now,
			Config: func() (sysconfig.Config, error) {
				return sysconfig.Config{Cluster: "test", SoaDir: soa, Hostname: "laptop", APIEndpoints: map[string]string{"test": answers.URL}}, nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		code := Main(ctx, env, args)
		return said{code, out.String(), errs.String()}
	}
	for _, way := range []string{"socket", "ssh"} {
		if way == "socket" {
			t.Setenv("DOCKER_HOST", engine.Host)
		} else { // as on a machine without an engine: the task's host has one
			t.Setenv("DOCKER_HOST", "")
			t.Setenv("PATH", paastatest.SSHTo(t, engine.Host)+":"+os.Getenv("PATH"))
		}
		if got := paasta("", "docker-exec", "-s", "web", "-i", "main", "--", "/bin/busybox", "hostname"); got.code != 0 || got.out != docker("inspect", "-f", "{{.Config.Hostname}}", "labelled")+"\n" || !strings.Contains(got.err, "3 tasks run; taking aaa on h1") {
			t.Errorf("%s: docker-exec: %v", way, got)
		}
		if got := paasta("echo said; echo more >&2; exit 5\n", "docker-exec", "-s", "web", "-i", "main", "-H", "h2"); got.code != 5 || got.out != "said\n" || got.err != "more\n" {
			t.Errorf("%s: docker-exec of a script: %v", way, got)
		}
		var details struct {
			Name  string
			State struct{ Running bool }
		}
		got := paasta("", "docker-inspect", "-s", "web", "-i", "main", "-m", "bbb")
		if err := json.Unmarshal([]byte(got.out), &details); err != nil || details.Name != "/mesos" || !details.State.Running {
			t.Errorf("%s: docker-inspect: %v, %v", way, got, err)
		}
	}
	if got := paasta("", "docker-stop", "-s", "web", "-i", "main"); got.code != 1 || !strings.Contains(got.err, "choose with --mesos-id: aaa on h1, bbb on h2") {
		t.Errorf("docker-stop of any: %v", got)
	}
	if got := paasta("", "docker-stop", "-s", "web", "-i", "main", "-m", "aaa", "--dry-run"); got.code != 0 || docker("ps", "-q", "--filter", "name=labelled") == "" {
		t.Errorf("a dry run stops it: %v", got)
	}
	if got := paasta("", "docker-stop", "-s", "web", "-i", "main", "-m", "aaa", "-t", "1"); got.code != 0 || docker("ps", "-q", "--filter", "name=labelled") != "" {
		t.Errorf("docker-stop: %v", got)
	}
	t.Setenv("DOCKER_HOST", engine.Host)
	if got := paasta("", "docker-inspect", "-s", "web", "-i", "main", "-H", "h3"); got.code != 1 || !strings.Contains(got.err, "no container of that task runs here") || !strings.Contains(got.err, "ssh://h3") {
		t.Errorf("of a task that is elsewhere: %v", got)
	}
	// What ssh says is what a person reads.
	t.Setenv("DOCKER_HOST", "ssh://h1")
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "ssh"), []byte("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", broken+":"+os.Getenv("PATH"))
	if got := paasta("", "docker-inspect", "-s", "web", "-i", "main", "-H", "h1"); got.code != 1 || !strings.Contains(got.err, "reach Docker on h1: Permission denied (publickey).") || !strings.Contains(got.err, "Try: the same ssh by hand") {
		t.Errorf("when ssh does not get in: %v", got)
	}
}
