package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

const (
	sha     = "591ae8a7b3224e3b3322370b858377dd6ef335b6"
	appID   = "web.main.git591ae8a7.configbfdfd109"
	oldApp  = "web.main.git0ld0ld00.configbfdfd109"
	cluster = "test"
)

var longAgo = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A world is a whole cluster around an API: a real ZooKeeper, and HTTP servers
// that speak as Marathon, deployd and an agent do.
type world struct {
	t        testing.TB
	zk       *zktest.Server
	conn     *zk.Conn
	server   *server
	url      string
	marathon *httptest.Server
	deployd  *httptest.Server
	agent    *httptest.Server
	apps     atomic.Value // string: the answer to /v2/apps
	slow     atomic.Int64 // nanoseconds that the agent takes
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, zk: zktest.Start(t)}
	conn, err := zk.Dial(zk.Options{Servers: w.zk.Addr(), Timeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w.conn = conn

	w.apps.Store(appsJSON(app(appID, 3, 3)))
	w.marathon = serveFake(t, map[string]http.HandlerFunc{
		"/v2/apps": func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, w.apps.Load()) },
		"/v2/queue": func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(rw, `{"queue": []}`)
		},
	})
	w.deployd = serveFake(t, map[string]http.HandlerFunc{
		"/v1/instances": answer([]paasta.BounceStatus{{Service: "web", Instance: "main", Method: "crossover", State: "steady", App: appID}}),
		"/v1/instances/web": answer([]paasta.BounceStatus{{
			Service: "web", Instance: "main", Method: "crossover", State: "steady", App: appID, Since: longAgo,
			Steps: []paasta.BounceStep{{Time: longAgo, Op: "create", Target: appID, Why: "it does not exist"}},
			Tasks: []paasta.BounceTask{{ID: "t1", App: appID, Host: "host1", Port: 31001, State: "happy"}},
		}}),
	})
	w.agent = serveFake(t, map[string]http.HandlerFunc{
		"/v1/backends/web.main": func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(w.slow.Load()))
			answer(backends(3))(rw, r)
		},
	})

	w.put(paasta.DeploymentsPath(cluster, "web"), `{"v2": {"deployments": {"prod.main": {"docker_image": "services-web:paasta-`+sha+`", "git_sha": "`+sha+`"}},
		"controls": {"web:test.main": {"desired_state": "start", "force_bounce": null}, "web:other.main": {"desired_state": "stop", "force_bounce": null}}}}`)
	w.lead()
	w.announce("host1", w.agent.URL)

	w.server = newServer(Options{
		Cluster: cluster, SoaDir: "soa", ZK: conn, Marathon: []Marathon{w.framework(w.marathon.URL)},
		Access: Access{Anyone: true}, Log: slog.New(slog.DiscardHandler),
	})
	w.server.changed(webTree(), nil)
	ts := httptest.NewServer(w.server.handler())
	t.Cleanup(ts.Close)
	w.url = ts.URL
	return w
}

func (w *world) framework(url string) Marathon {
	c, err := marathon.New(marathon.Options{URLs: []string{url}})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) put(path, data string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if err := w.conn.Put(ctx, path, []byte(data)); err != nil {
		w.t.Fatal(err)
	}
}

// lead makes the fake deployd the leader.
func (w *world) lead() {
	w.t.Helper()
	data, _ := json.Marshal(paasta.LeaderNode{Host: "master1", Status: w.deployd.URL})
	leader := zk.Leader{Conn: w.conn, Dir: paasta.LeaderPath(cluster), Data: data}
	ctx, cancel := context.WithCancel(w.t.Context())
	leads, done := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(leads) })
	go func() {
		defer close(done)
		_ = leader.Lead(ctx, func(ctx context.Context, _ zk.Fence) error {
			once()
			<-ctx.Done()
			return nil
		})
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	select {
	case <-leads:
	case <-time.After(30 * time.Second):
		w.t.Fatal("nobody leads after 30s")
	}
}

func (w *world) announce(host, status string) {
	data, _ := json.Marshal(paasta.AgentNode{Host: host, Status: status})
	w.put(paasta.AgentsPath+"/"+host, string(data))
}

func (w *world) client() *Client {
	w.t.Helper()
	c, err := NewClient(ClientOptions{URL: w.url})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// main returns the status of web.main.
func (w *world) main() InstanceStatus {
	w.t.Helper()
	all, err := w.client().Status(w.t.Context(), "web", "main")
	if err != nil {
		w.t.Fatal(err)
	}
	return all[0]
}

// serveFake serves handlers by path; every other path is a 404.
func serveFake(t testing.TB, handlers map[string]http.HandlerFunc) *httptest.Server {
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.HandleFunc(path, h)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

// app is an app in Marathon's JSON with n tasks t1 … tn on host1, healthy.
func app(id string, size, n int) string {
	var tasks []string
	for i := 1; i <= n; i++ {
		tasks = append(tasks, fmt.Sprintf(`{"id": "%s.t%d", "appId": "/%s", "host": "host1", "ports": [%d], "state": "TASK_RUNNING",
			"stagedAt": "2026-01-02T03:04:05.000Z", "startedAt": "2026-01-02T03:04:06.000Z", "version": "2026-01-02T03:04:05.000Z",
			"healthCheckResults": [{"alive": true, "consecutiveFailures": 0}]}`, id, i, id, 31000+i))
	}
	git := strings.TrimPrefix(strings.Split(id, ".")[2], "git")
	image := "registry:5000/services-web:paasta-" + git + strings.TrimPrefix(sha, sha[:8])
	return fmt.Sprintf(`{"id": "/%s", "instances": %d, "version": "2026-01-02T03:04:05.000Z", "healthChecks": [{}], "deployments": [],
		"lastTaskFailure": {"appId": "/x", "host": "host1", "message": "exited with 1", "state": "TASK_FAILED", "taskId": "t0", "timestamp": "2026-01-02T03:04:05.000Z", "version": "2026-01-02T03:04:05.000Z"},
		"container": {"docker": {"image": "%s"}}, "tasks": [%s]}`, id, size, image, strings.Join(tasks, ","))
}

func appsJSON(apps ...string) string { return `{"apps": [` + strings.Join(apps, ",") + `]}` }

func backends(n int) paasta.AgentBackends {
	b := paasta.AgentBackends{Registration: "web.main", Generation: 7, Version: 42}
	for i := 1; i <= n; i++ {
		b.Backends = append(b.Backends, paasta.AgentBackend{
			Name: fmt.Sprintf("web_10.0.0.1:%d", 31000+i), Host: "10.0.0.1", Port: 31000 + i,
			TaskID: fmt.Sprintf("%s.t%d", appID, i), Weight: 10, Status: "UP", Up: true, LastCheck: "L7OK/200 in 3ms", Since: longAgo,
		})
	}
	return b
}

// webTree is what soa-configs say: web.main, three tasks in SmartStack; web.batch,
// in no SmartStack; web.bad, broken; and other, without instances here.
func webTree() *soaconfig.Tree {
	port := 20001
	web := &soaconfig.Service{
		Name: "web", Dir: "soa/web", Clusters: []string{cluster},
		Instances: map[string]soaconfig.Entries[soaconfig.Instance]{cluster: {
			File: "soa/web/marathon-test.yaml",
			Valid: map[string]soaconfig.Instance{
				"main": {
					Service: "web", Cluster: cluster, Name: "main", DeployGroup: "prod.main", Size: 3,
					BounceMethod: "crossover", BounceMarginFactor: 1, Registrations: []string{"web.main"},
				},
				"batch": {
					Service: "web", Cluster: cluster, Name: "batch", DeployGroup: "prod.batch", Size: 1,
					BounceMethod: "upthendown", BounceMarginFactor: 1, Registrations: []string{"web.batch"},
				},
			},
			Invalid: map[string]soaconfig.Problems{"bad": {{File: "soa/web/marathon-test.yaml", Line: 9, Column: 3, Key: "bad.cpus", Text: "must be a number"}}},
		}},
		Namespaces: soaconfig.Entries[soaconfig.Namespace]{Valid: map[string]soaconfig.Namespace{
			"main": {Service: "web", Name: "main", ProxyPort: &port, Registered: true, Mode: "http"},
		}},
	}
	return &soaconfig.Tree{Dir: "soa", Services: map[string]*soaconfig.Service{"web": web, "other": {Name: "other"}}}
}

func get(t testing.TB, address string) (int, string) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}
