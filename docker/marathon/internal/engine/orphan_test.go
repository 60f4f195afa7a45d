package engine

import (
	"context"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// An engine that was killed while it started a container leaves one that it does
// not know to run, though it does and has an address that others get. What is
// left of it is killed, and a launch that is done again replaces it.
func TestEngineKilledInTheMiddleOfAStart(t *testing.T) {
	e := dockertest.Start(t)
	e.Build("probe:1", dockertest.Probe)
	l := launch(t, `{"id":"/web","cpus":0.1,"mem":64,"container":{"docker":{"image":"probe:1","network":"BRIDGE"}}}`, 0)
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("docker", append([]string{"-H", e.Host}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	left := docker("run", "--detach", "--name", containerName(l.Task.ID), "--label", taskLabel+"="+l.Task.ID, "--label", ownerLabel+"=owner", "probe:1")
	if n := len(processesOf([]string{left})); n != 2 {
		t.Fatalf("%d processes of a container, want it and its shim", n)
	}
	e.Kill()
	e.Forget(left)
	e.Restart()
	if n := len(processesOf([]string{left})); n == 0 {
		t.Fatal("this engine does not leave processes: nothing is tested")
	}

	reports := make(chan core.Status, 10)
	found := make(chan []core.Status, 10)
	ctx, stop := context.WithCancel(t.Context())
	engine, err := New(ctx, Options{
		Host: e.Host, Owner: "owner", Sandboxes: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Fetch:  func(context.Context, core.Task, string) error { return nil },
		Report: func(s core.Status) { reports <- s },
		Found:  func(all []core.Status) { found <- all },
		Down:   func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if all := <-found; len(all) != 0 {
		t.Errorf("found %+v", all)
	}
	if left := processesOf([]string{left}); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	engine.Launch(l)
	var s core.Status
	for s.Handle == "" || s.Handle == left { // which is reported when it ends
		select {
		case s = <-reports:
		case <-time.After(30 * time.Second):
			t.Fatal("the launch says nothing")
		}
	}
	if s.State != core.Running || s.IP == "" {
		t.Errorf("the new container: %+v", s)
	}
	if now := e.Containers("paasta.marathon=owner"); len(now) != 1 || strings.HasPrefix(left, now[0]) {
		t.Errorf("containers %v, want one that is not %s", now, left)
	}
}
