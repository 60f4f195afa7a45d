package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// What is reported of a task is its container's status, whatever else the engine
// says of it.
func TestHowContainersEnd(t *testing.T) {
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	e := dockertest.Start(t)
	e.BuildFiles("box:1", map[string][]byte{"busybox": busybox}, "FROM scratch", "COPY busybox /bin/busybox", "COPY busybox /bin/sh", `ENTRYPOINT ["/bin/sh", "-c"]`)
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("docker", append([]string{"-H", e.Host}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	engine, err := New(t.Context(), Options{Host: e.Host, Owner: "owner", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.docker.Close()
	check := func(what, id, state, message string) {
		t.Helper()
		s, ok := engine.inspect(t.Context(), id)
		if !ok || s.State != state || s.Message != message {
			t.Errorf("%s: %+v, %v, want %s %q", what, s, ok, state, message)
		}
	}
	const hog = "busybox tail /dev/zero"
	var lost string
	for _, test := range []struct{ cmd, state, message string }{
		{"exit 0", core.Finished, "Container exited with status 0"},
		{"exit 3", core.Failed, "Container exited with status 3"},
		{"exit 255", core.Failed, "Container exited with status 255"},
		{"busybox kill -TERM $$; exec busybox sh -c 'busybox kill -QUIT $$; exit 131'", core.Failed, "Container exited with status 131 (signal 3)"},
		{hog + "; exit 0", core.Finished, "Container exited with status 0; one of its processes was killed at the memory limit"},
		{hog + "; exit 7", core.Failed, "Container exited with status 7; one of its processes was killed at the memory limit"},
		{"exec " + hog, core.Failed, "Memory limit exceeded: the container was killed"},
	} {
		id := docker("run", "--detach", "--memory=32m", "--memory-swap=32m", "--network=none", "box:1", test.cmd)
		docker("wait", id)
		check(test.cmd, id, test.state, test.message)
		lost = id
	}
	// What Docker from 25 on remembers of one that ended while it was down.
	e.Kill()
	now := time.Now().UTC()
	e.SetState(lost, map[string]any{"ExitCode": 255, "StartedAt": now.Add(-time.Minute), "FinishedAt": now})
	e.Restart()
	check("unseen", lost, core.Failed, "Container ended while the engine was down, its exit code is lost")
}

// A launch may be asked for before Run has begun, and is not lost.
func TestLaunchBeforeRun(t *testing.T) {
	reports := make(chan core.Status, 1)
	engine, err := New(t.Context(), Options{
		Host: "unix:///nonexistent", Owner: "owner", Sandboxes: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Fetch: func(context.Context, core.Task, string) error { return nil }, Report: func(s core.Status) { reports <- s },
	})
	if err != nil {
		t.Fatal(err)
	}
	engine.Launch(launch(t, `{"id":"/web","cpus":0.1,"mem":64,"container":{"docker":{"image":"probe:1"}}}`))
	select {
	case s := <-reports:
		if s.State != core.Unreachable {
			t.Errorf("reported %+v", s)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the launch says nothing")
	}
}

// A task's image may be named by its id, which is one digest or another by how
// the engine keeps images. One that is nowhere is said.
func TestImageStores(t *testing.T) {
	dockertest.OnEachStore(t, func(t *testing.T, e *dockertest.Engine) {
		e.Build("probe:1", dockertest.Probe)
		id, err := exec.Command("docker", "-H", e.Host, "image", "inspect", "--format", "{{.Id}}", "probe:1").Output()
		if err != nil {
			t.Fatal(err)
		}
		engine, err := New(t.Context(), Options{
			Host: e.Host, Owner: "owner", Sandboxes: t.TempDir(), Log: slog.New(slog.DiscardHandler),
			Fetch: func(context.Context, core.Task, string) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer engine.docker.Close()
		for n, test := range []struct{ image, state, message string }{
			{"probe:1", core.Running, ""},
			{strings.TrimSpace(string(id)), core.Running, ""},
			{"127.0.0.1:1/none:1", core.Failed, "pull 127.0.0.1:1/none:1"},
		} {
			l := launch(t, fmt.Sprintf(`{"id":"/web","cpus":0.1,"mem":64,"container":{"docker":{"image":%q}}}`, test.image), 0)
			l.Task.ID = fmt.Sprintf("web.%d", n)
			if s := engine.launch(t.Context(), l); s.State != test.state || !strings.Contains(s.Message, test.message) {
				t.Errorf("%s: %+v, want %s %q", test.image, s, test.state, test.message)
			}
		}
	})
}
