package marathon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/marathontest"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// What the client relies on holds for the Marathon of tests and for paasta
// marathon alike.
func TestContract(t *testing.T) {
	t.Run("marathontest", func(t *testing.T) {
		t.Parallel()
		s := marathontest.Start(t)
		s.Auto(true)
		contract(t, s.URL)
	})
	t.Run("paasta marathon", func(t *testing.T) {
		t.Parallel()
		contract(t, paastaMarathon(t))
	})
}

// paastaMarathon runs the real process, with plain processes for tasks.
func paastaMarathon(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "paasta")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/paasta").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	agents := filepath.Join(dir, "agents.json")
	text := `[{"hostname": "127.0.0.1", "address": "127.0.0.1", "attributes": {"pool": "default"}, "cpus": 4, "mem": 4096, "port_low": 41000, "port_high": 41100}]`
	if err := os.WriteFile(agents, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "marathon", "--listen", addr, "--state-dir", filepath.Join(dir, "state"),
		"--agents-config", agents, "--docker-host", "unix://"+dir+"/none.sock")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // how it ends is not this test's business
		if t.Failed() {
			t.Logf("paasta marathon:\n%s", &log)
		}
	})
	return "http://" + addr
}

func contract(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	// The first member is nobody: every call finds the second.
	c, err := marathon.New(marathon.Options{URLs: []string{"http://127.0.0.1:1", url}})
	if err != nil {
		t.Fatal(err)
	}
	paastatest.Eventually(t, "ping", func() error { return c.Ping(ctx) })

	var mu sync.Mutex
	var seen []marathon.Event
	attached := make(chan struct{}, 8)
	streaming, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Events(streaming, func(e marathon.Event) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, e)
		}, func() { attached <- struct{}{} })
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Events: %v", err)
		}
	}()
	<-attached

	id := paasta.AppID{InstanceID: paasta.InstanceID{Service: "my_web", Instance: "main"}, Git: "git11111111", Config: "config22222222"}
	create(t, url, id.String(), 2)
	create(t, url, "my--web.main2.git11111111.config22222222", 0)
	create(t, url, "group/other", 0)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = c.DeleteApp(ctx, id.String()) // deleted already, if all is well
	})
	var app marathon.App
	read := func() error {
		apps, err := c.AppsOf(ctx, id.InstanceID)
		if err != nil || len(apps) != 1 {
			return errors.Join(err, fmt.Errorf("AppsOf = %+v; want the one app", apps))
		}
		app = apps[0]
		return nil
	}
	paastatest.Eventually(t, "two tasks run", func() error {
		if err := read(); err != nil {
			return err
		}
		running := 0
		for _, task := range app.Tasks {
			if task.Running() && !task.StartedAt.IsZero() && len(task.Ports) == 1 && task.AppID == id.String() && task.IP == task.Host {
				running++
			}
		}
		if running != 2 {
			return fmt.Errorf("%+v", app)
		}
		return nil
	})
	if app.ID != id.String() || app.Size != 2 || app.Labels["paasta_cluster"] != "c" || app.Created.IsZero() {
		t.Errorf("app %+v", app)
	}
	if apps, err := c.Apps(ctx); err != nil || len(apps) != 3 {
		t.Errorf("Apps = %+v, %v; want 3", apps, err)
	}
	paastatest.Eventually(t, "an event of a running task", func() error {
		mu.Lock()
		defer mu.Unlock()
		if !slices.ContainsFunc(seen, func(e marathon.Event) bool {
			return e.Type == "status_update_event" && e.State == "TASK_RUNNING" && e.AppID == id.String() && e.TaskID != ""
		}) {
			return fmt.Errorf("%+v", seen)
		}
		return nil
	})

	if err := c.Create(ctx, marathon.Definition{ID: id.String(), Container: marathon.Container{Type: "DOCKER", Docker: marathon.Docker{Image: "x", Network: "BRIDGE"}, Volumes: []marathon.Volume{}}, CPUs: .1, Mem: 32, BackoffFactor: 2}); !errors.Is(err, marathon.ErrExists) {
		t.Errorf("Create of what exists: %v", err)
	}
	network := marathon.Definition{
		ID: "net.main.git11111111.config22222222", CPUs: .1, Mem: 32, BackoffFactor: 2, IPAddress: &marathon.IPAddress{NetworkName: "overlay.A"},
		Container: marathon.Container{Type: "DOCKER", Docker: marathon.Docker{Image: "x", Network: "USER", PortMappings: []marathon.PortMapping{{ContainerPort: 8888, Protocol: "tcp"}}}, Volumes: []marathon.Volume{}},
	}
	if err := errors.Join(c.Create(ctx, network), c.DeleteApp(ctx, network.ID)); err != nil {
		t.Errorf("an app on a Docker network: %v", err)
	}
	if err := c.KillTasks(ctx, []string{app.Tasks[0].ID}, true, true); err != nil {
		t.Error(err)
	}
	kept := app.Tasks[1].ID
	paastatest.Eventually(t, "one task is left", func() error {
		if err := read(); err != nil {
			return err
		}
		if app.Size != 1 || len(app.Tasks) != 1 || app.Tasks[0].ID != kept {
			return fmt.Errorf("%+v", app)
		}
		return nil
	})
	if err := c.KillTasks(ctx, []string{"my--web.main.git11111111.config22222222.00000000-0000-11ee-8000-00000000dead"}, false, true); err != nil {
		t.Errorf("killing what is gone: %v", err)
	}
	if err := c.Scale(ctx, id.String(), 3, true); err != nil {
		t.Error(err)
	}
	paastatest.Eventually(t, "three tasks run", func() error {
		if err := read(); err != nil {
			return err
		}
		if app.Size != 3 || len(app.Tasks) != 3 {
			return fmt.Errorf("%+v", app)
		}
		return nil
	})
	if _, err := c.Queue(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Scale(ctx, "nobody.main.git11111111.config22222222", 3, true); err == nil {
		// Marathon takes it for a new app without anything to run: 422.
		t.Error("an app that is not there was scaled")
	}
	if err := c.DeleteApp(ctx, id.String()); err != nil {
		t.Error(err)
	}
	paastatest.Eventually(t, "gone", func() error {
		if apps, err := c.AppsOf(ctx, id.InstanceID); err != nil || len(apps) != 0 {
			return errors.Join(err, fmt.Errorf("%+v", apps))
		}
		return nil
	})
	if err := c.DeleteApp(ctx, id.String()); !errors.Is(err, marathon.ErrNotFound) {
		t.Errorf("DeleteApp twice: %v", err)
	}
}

func create(t *testing.T, url, id string, size int) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"id": id, "cmd": "exec sleep 300", "instances": size, "cpus": 0.1, "mem": 32, "labels": map[string]string{"paasta_cluster": "c"},
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(url+"/v2/apps", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatalf("POST /v2/apps: %s", response.Status)
	}
}

// After every connection the caller is told that it may have missed something.
func TestEventsReconnect(t *testing.T) {
	t.Parallel()
	s := marathontest.Start(t)
	c, err := marathon.New(marathon.Options{URLs: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	attached := make(chan struct{}, 8)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Events(ctx, func(marathon.Event) {}, func() { attached <- struct{}{} }) }()
	<-attached
	s.CloseStreams()
	select {
	case <-attached:
	case <-time.After(10 * time.Second):
		t.Error("not attached again")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A member that is down is passed over: at first with a call more, and a word in
// the log, and then no more until the one that answers is down.
func TestMembers(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	standby, s := marathontest.Start(t), marathontest.Start(t)
	standby.Down(true)
	var log bytes.Buffer
	c, err := marathon.New(marathon.Options{
		URLs: []string{gone.URL, standby.URL, s.URL}, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.Apps(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "url="+gone.URL+" next="+s.URL) {
		t.Errorf("logged, want one line with both members:\n%s", &log)
	}
	standby.Down(false)
	s.Down(true)
	if _, err := c.Apps(t.Context()); err != nil {
		t.Errorf("back to the second: %v", err)
	}
	standby.Down(true)
	if _, err := c.Apps(t.Context()); err == nil || strings.Count(err.Error(), "/v2/apps") != 3 {
		t.Errorf("with none: %v, want what each of them said", err)
	}
}

func TestLockedAndDown(t *testing.T) {
	t.Parallel()
	s := marathontest.Start(t)
	c, err := marathon.New(marathon.Options{URLs: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s.URL, "web.main.git1.config1", 0)
	s.Lock("web.main.git1.config1", true)
	if err := c.Scale(t.Context(), "web.main.git1.config1", 2, false); !errors.Is(err, marathon.ErrLocked) {
		t.Errorf("a locked app: %v", err)
	}
	if err := c.Scale(t.Context(), "web.main.git1.config1", 2, true); err != nil {
		t.Errorf("with force: %v", err)
	}
	s.Down(true)
	var status *marathon.StatusError
	for range 2 { // a member that failed is asked again at once
		if err := c.Scale(t.Context(), "web.main.git1.config1", 1, true); !errors.As(err, &status) || status.Code != http.StatusServiceUnavailable {
			t.Errorf("a Marathon that is down: %v", err)
		}
	}
	s.Down(false)
	if err := c.Scale(t.Context(), "web.main.git1.config1", 1, true); err != nil {
		t.Errorf("up again: %v", err)
	}
}
