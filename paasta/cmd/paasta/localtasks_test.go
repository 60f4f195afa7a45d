package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/docker/marathon"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack"
)

// The agent of a host, the Marathon of that host and a ZooKeeper: entries of
// tasks that are gone go, and nothing else does, whatever Marathon is like.
func TestEntriesOfTasksThatAreGone(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	binary := paastatest.Need(t, "haproxy")
	python := paastatest.Need(t, "python3")
	paastatest.Need(t, "ip")
	server := zktest.Start(t)
	conn, err := zk.Dial(zk.Options{Servers: server.Addr(), Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	entries := registry.NewZooKeeper(conn)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))

	// Marathon, with one agent at 10.77.1.1, which is an address of this host.
	const at = "127.0.0.1:8080"
	state := t.TempDir()
	begin := func() (stop func()) {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		wait.Go(func() {
			o := marathon.Options{Listener: l, StateDir: state, Agents: marathon.Agents(make([]marathon.Agent, 1)), DockerHost: "unix:///nonexistent", Log: log}
			if err := marathon.Run(ctx, o); err != nil {
				t.Error(err)
			}
		})
		return sync.OnceFunc(func() { cancel(); wait.Wait() })
	}
	stop := begin()
	defer func() { stop() }()
	call := func(method, path, body string, into any) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+at+path, bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
		if into != nil {
			if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
				t.Fatal(err)
			}
		}
	}
	type task struct {
		ID, Host, State string
		Ports           []int
	}
	running := func(app string) (ts []task) {
		t.Helper()
		paastatest.Until(t, "two tasks of "+app+" run", func() bool {
			var answer struct{ Tasks []task }
			call("GET", "/v2/apps/"+app+"/tasks", "", &answer)
			ts = answer.Tasks
			for _, x := range ts {
				if x.State != "TASK_RUNNING" {
					return false
				}
			}
			return len(ts) == 2
		})
		return ts
	}
	for _, app := range []string{"web", "other"} {
		call("POST", "/v2/apps", fmt.Sprintf(`{"id":"/%s","cmd":"exec %s -m http.server --bind $HOST $PORT0","cpus":0.1,"mem":16,"instances":2,"ports":[0],
			"labels":{"paasta_service":%q,"paasta_instance":"main"}}`, app, python, app), nil)
	}
	defer func() {
		for _, app := range []string{"web", "other"} {
			call("DELETE", "/v2/apps/"+app+"?force=true", "", nil)
		}
		paastatest.Until(t, "no task is left", func() bool {
			var answer struct{ Tasks []task }
			call("GET", "/v2/tasks", "", &answer)
			return len(answer.Tasks) == 0
		})
	}()
	web := running("web")
	running("other")
	entry := func(x task, port int) registry.Entry {
		return registry.Entry{Host: "10.77.1.1", Port: port, Name: "host1", Weight: 10, Labels: map[string]string{registry.LabelCluster: "test", registry.LabelTaskID: x.ID}}
	}
	stranger := entry(task{ID: "not.known"}, web[0].Ports[0])
	stranger.Labels[registry.LabelCluster] = "another"
	want := []registry.Entry{entry(web[0], web[0].Ports[0]), entry(web[1], web[1].Ports[0]), stranger}
	if err := entries.Apply(t.Context(), "web.main", want, nil); err != nil {
		t.Fatal(err)
	}

	// The agent.
	soa := t.TempDir()
	if err := os.MkdirAll(filepath.Join(soa, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(soa, "web", "smartstack.yaml"), []byte("main: {proxy_port: 20001}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ss")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := sysconfig.Config{
		Cluster: "test", SoaDir: soa, Hostname: "host1", MarathonServers: []sysconfig.MarathonServer{{URL: []string{"http://" + at}}},
		Smartstack: sysconfig.Smartstack{
			StateDir: dir, StatsListen: "127.0.0.1:3212", BindAddresses: []string{"127.0.0.1"}, HAProxy: binary, MaxConn: 100,
			CheckInterval: 10 * time.Minute, CheckFast: 30 * time.Second,
			Reload: sysconfig.Reload{Protect: "none", MinInterval: 50 * time.Millisecond, Hold: 2 * time.Second, HardStop: time.Minute}, RemovalFloor: 0.5, RemovalWindow: time.Second,
		},
	}
	tasks, err := localTasks(c)
	if err != nil || tasks == nil {
		t.Fatalf("local tasks: %v", err)
	}
	if local, err := tasks(t.Context()); err != nil || len(local.Tasks) != 4 || local.Tasks[0].Service == "" || local.Tasks[0].Host != "10.77.1.1" {
		t.Fatalf("%+v, %v", local, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	rounds := make(chan error, 1000)
	o := smartstack.Options{
		Config: c, Registry: entries, Session: conn, Listener: l, Metrics: prometheus.NewRegistry(), Log: log,
		LocalTasks: func(ctx context.Context) (smartstack.LocalTasks, error) {
			local, err := tasks(ctx)
			select {
			case rounds <- err:
			default:
			}
			return local, err
		},
	}
	o.Cleaning.Every, o.Cleaning.Grace = 50*time.Millisecond, 300*time.Millisecond
	wait.Go(func() {
		if err := smartstack.Run(ctx, o); err != nil {
			t.Error(err)
		}
	})
	defer stopHAProxy(t, c)
	defer wait.Wait()
	defer cancel()
	asked := func(n int, failed bool) {
		t.Helper()
		timeout := time.After(20 * time.Second)
		for n > 0 {
			select {
			case err := <-rounds:
				if (err != nil) == failed {
					n--
				}
			case <-timeout:
				t.Fatalf("the tasks were not asked for %d times more, failing: %t", n, failed)
			}
		}
	}
	registered := func() int {
		t.Helper()
		set, err := entries.List(t.Context(), "web.main")
		if err != nil {
			t.Fatal(err)
		}
		return len(set.Nodes)
	}
	asked(20, false)
	if n := registered(); n != 3 {
		t.Fatalf("%d entries while all tasks run, want 3", n)
	}

	// Marathon does not answer: unknown.
	stop()
	asked(20, true)
	if n := registered(); n != 3 {
		t.Fatalf("%d entries while Marathon is down, want 3", n)
	}
	// It has lost what it knew, and says that nothing runs; but the ports answer.
	kept := state
	state = t.TempDir()
	stop = begin()
	asked(20, false)
	if n := registered(); n != 3 {
		t.Fatalf("%d entries while Marathon has forgotten its tasks, want 3", n)
	}
	stop()
	state = kept
	stop = begin()
	asked(5, false)

	// A task is killed, and one takes its place: its entry goes, the others stay.
	call("DELETE", "/v2/apps/web/tasks/"+web[0].ID, "", nil)
	paastatest.Until(t, "the entry of the killed task is gone", func() bool { return registered() == 2 })
	asked(20, false)
	set, err := entries.List(t.Context(), "web.main")
	if err != nil || len(set.Nodes) != 2 {
		t.Fatalf("%+v, %v", set, err)
	}
	for _, n := range set.Nodes {
		if n.Labels[registry.LabelTaskID] == web[0].ID {
			t.Errorf("%s is left", n.Path)
		}
	}
}

// Nobody is asked who cannot know.
func TestLocalTasksOfWhom(t *testing.T) {
	for url, want := range map[string]bool{
		"":                         false,
		"http://marathon:8080":     false,
		"http://192.0.2.1:8080":    false,
		"http://127.0.0.1:8080":    true,
		"http://localhost:8080":    true,
		"http://[::1]:8080":        true,
		"http://127.0.0.1.x:8080/": false,
	} {
		c := sysconfig.Config{}
		if url != "" {
			c.MarathonServers = []sysconfig.MarathonServer{{URL: []string{url}}}
		}
		tasks, err := localTasks(c)
		if err != nil || (tasks != nil) != want {
			t.Errorf("%q: asked %t, %v; want %t", url, tasks != nil, err, want)
		}
	}
}

// A real Marathon has no /paasta/agents: unknown.
func TestLocalTasksOfARealMarathon(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"not found":    http.NotFound,
		"other answer": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"apps":[]}`) },
		"no answer":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>`) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go http.Serve(l, answer)
		tasks, err := localTasks(sysconfig.Config{MarathonServers: []sysconfig.MarathonServer{{URL: []string{"http://" + l.Addr().String()}}}})
		if err != nil {
			t.Fatal(err)
		}
		if local, err := tasks(t.Context()); err == nil {
			t.Errorf("%s: %+v, want an error", name, local)
		}
	}
}

// stopHAProxy ends what the agent left.
func stopHAProxy(t *testing.T, c sysconfig.Config) {
	t.Helper()
	for _, sub := range smartstack.Command(smartstack.Wiring{Config: func() (sysconfig.Config, error) { return c, nil }}).Sub {
		if sub.Use == "stop-haproxy" {
			if err := sub.Run(context.Background(), command.IO{Out: t.Output(), Err: t.Output()}, nil); err != nil {
				t.Error(err)
			}
		}
	}
}
