package marathon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/gambol99/go-marathon"

	"github.com/gopaasta/paasta/docker/marathon"
)

// A daemon is a paasta marathon in this process.
type daemon struct {
	t      testing.TB
	url    string
	o      marathon.Options
	cancel context.CancelFunc
	done   chan error
}

// start runs one without a Docker Engine, so that only processes run, unless
// change says otherwise.
func start(t testing.TB, change func(*marathon.Options)) *daemon {
	t.Helper()
	d := &daemon{t: t, o: marathon.Options{
		StateDir: t.TempDir(), DockerHost: "unix://" + t.TempDir() + "/none.sock", EnvPrefix: "MARATHON_",
		Agents: marathon.Agents([]marathon.Agent{{Hostname: "a", Address: "127.0.0.1"}, {Hostname: "b", Address: "127.0.0.1"}, {Hostname: "c", Address: "127.0.0.1"}}),
		Log:    slog.New(slog.NewTextHandler(&logged{t: t}, nil)),
	}}
	if change != nil {
		change(&d.o)
	}
	d.run("127.0.0.1:0")
	t.Cleanup(func() {
		// Nothing of a test may outlive it.
		var apps struct{ Apps []struct{ ID string } }
		if d.cancel == nil {
			return
		}
		d.get("/v2/apps", &apps)
		for _, a := range apps.Apps {
			d.call("DELETE", "/v2/apps"+a.ID, "")
		}
		d.until(20*time.Second, "all tasks are gone", func() bool { return len(d.tasks("")) == 0 })
		d.stop()
	})
	return d
}

// logged writes a log to a test, as long as that runs.
type logged struct {
	t  testing.TB
	mu sync.Mutex
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

func (d *daemon) run(address string) {
	d.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.o.Listener, d.url = l, "http://"+l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func(o marathon.Options) { d.done <- marathon.Run(ctx, o) }(d.o)
	d.until(10*time.Second, "it answers", func() bool { return d.call("GET", "/ping", "").status == 200 })
}

func (d *daemon) stop() {
	d.t.Helper()
	d.cancel()
	d.cancel = nil
	if err := <-d.done; err != nil {
		d.t.Errorf("Run: %v", err)
	}
}

func (d *daemon) until(limit time.Duration, what string, ok func() bool) {
	d.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("after %v it is not so that %s", limit, what)
		}
	}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (d *daemon) call(method, path, body string, headers ...string) reply {
	d.t.Helper()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		return reply{body: err.Error()}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func (d *daemon) get(path string, into any) {
	d.t.Helper()
	r := d.call("GET", path, "")
	if r.status != 200 {
		d.t.Fatalf("GET %s: %d %s", path, r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), into); err != nil {
		d.t.Fatalf("GET %s: %v in %s", path, err, r.body)
	}
}

type task struct {
	ID, AppID, Host, State, Version string
	Ports                           []int
	HealthCheckResults              []struct{ Alive bool }
}

func (d *daemon) tasks(app string) []task {
	d.t.Helper()
	var answer struct{ Tasks []task }
	path := "/v2/tasks"
	if app != "" {
		path = "/v2/apps" + app + "/tasks"
	}
	r := d.call("GET", path, "")
	if r.status == 404 {
		return nil
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
		d.t.Fatalf("GET %s: %v in %s", path, err, r.body)
	}
	return answer.Tasks
}

// running waits for n running tasks and no deployment.
func (d *daemon) running(app string, n int) []task {
	d.t.Helper()
	var list []task
	d.until(30*time.Second, fmt.Sprintf("%d tasks of %s run", n, app), func() bool {
		list = d.tasks(app)
		for _, t := range list {
			if t.State != "TASK_RUNNING" {
				return false
			}
		}
		return len(list) == n && d.call("GET", "/v2/deployments", "").body == "[]"
	})
	return list
}

// alive counts the running tasks of app whose health check has passed, which
// comes a moment after they run.
func (d *daemon) alive(app string) int {
	d.t.Helper()
	n := 0
	for _, task := range d.tasks(app) {
		if task.State == "TASK_RUNNING" && len(task.HealthCheckResults) == 1 && task.HealthCheckResults[0].Alive {
			n++
		}
	}
	return n
}

func (d *daemon) post(body string) {
	d.t.Helper()
	if r := d.call("POST", "/v2/apps", body); r.status != 201 {
		d.t.Fatalf("POST %s: %d %s", body, r.status, r.body)
	}
}

func (d *daemon) client() client.Marathon {
	d.t.Helper()
	c := client.NewDefaultConfig()
	c.URL = d.url
	c.HTTPClient = &http.Client{} // it reads events with it too: no timeout
	c.EventsTransport = client.EventsTransportSSE
	c.PollingWaitTime = 20 * time.Millisecond
	m, err := client.NewClient(c)
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}
