package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

func TestAnswersAreAsDocumented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := loadDocument(t)
	log, _ := json.Marshal([]paasta.LogLine{{Time: longAgo, Component: "deploy", Level: "event", Cluster: cluster, Service: "web", Instance: "main", Message: "created"}})
	w.put(paasta.DeployLogPath(cluster, "web"), string(log))
	for _, tc := range []struct {
		method, path, address string
		code                  int
		has                   string
	}{
		{"GET", "/v1/services", "/v1/services", 200, `"bad","batch","main"`},
		{"GET", "/v1/services/{service}/status", "/v1/services/web/status", 200, `"instance":"batch"`},
		{"GET", "/v1/services/{service}/status", "/v1/services/other/status", 200, "[]"},
		{"GET", "/v1/services/{service}/{instance}/status", "/v1/services/web/main/status", 200, `"message":"exited with 1"`},
		{"GET", "/v1/services/{service}/{instance}/status", "/v1/services/web/bad/status", 200, "must be a number"},
		{"GET", "/v1/services/{service}/{instance}/status", "/v1/services/web/nope/status", 404, "it has: bad, batch, main"},
		{"GET", "/v1/services/{service}/status", "/v1/services/nope/status", 404, "no service"},
		{"GET", "/v1/services/{service}/deployments", "/v1/services/web/deployments", 200, sha},
		{"GET", "/v1/services/{service}/deployments", "/v1/services/other/deployments", 200, `"known":false`},
		{"POST", "/v1/services/{service}/kick", "/v1/services/web/kick", 202, `"pending":false`},
		{"POST", "/v1/services/{service}/kick", "/v1/services/web/kick", 202, `"pending":true`},
		{"POST", "/v1/services/{service}/kick", "/v1/services/web/kick?from=hook", 202, `"pending":true`},
		{"POST", "/v1/services/{service}/kick", "/v1/services/web/kick?from=me", 400, "(known: hook)"},
		{"POST", "/v1/services/{service}/kick", "/v1/services/nope/kick", 404, "no service"},
		{"GET", "/v1/services/{service}/logs", "/v1/services/web/logs", 200, "created"},
		{"GET", "/v1/services/{service}/logs", "/v1/services/web/logs?lines=0&components=foo&bar=1", 400, "unknown parameter"},
		{"GET", "/healthz", "/healthz", 200, `"zookeeper":true`},
		{"GET", "/metrics", "/metrics", 200, "paasta_api_requests_total"},
	} {
		code, body := w.validated(doc, tc.method, tc.path, tc.address)
		if code != tc.code || !strings.Contains(body, tc.has) {
			t.Errorf("%s %s: %d\n%s\nwant %d with %s", tc.method, tc.address, code, body, tc.code, tc.has)
		}
	}
	if code, body := get(t, w.url+"/openapi.yaml"); code != 200 || body != string(document) {
		t.Errorf("/openapi.yaml: %d, %d bytes", code, len(body))
	}
	if code, body := get(t, w.url+"/"); code != 200 || !strings.Contains(body, ">web.main</a>") || !strings.Contains(body, "3 of 3") || !strings.Contains(body, "steady") {
		t.Errorf("/: %d\n%s", code, body)
	}
	for _, tc := range []struct {
		method, address, has string
		code                 int
	}{
		{"GET", "/v2/nope", "no such path", 404},
		{"DELETE", "/v1/services/web/kick", "takes POST, not DELETE", 405},
		{"GET", "/v1/services/web/kick", "takes POST, not GET", 405},
	} {
		req, _ := http.NewRequest(tc.method, w.url+tc.address, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var e Error
		err = json.NewDecoder(resp.Body).Decode(&e)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tc.code || !strings.Contains(e.Message, tc.has) {
			t.Errorf("%s %s: %d, %+v, %v", tc.method, tc.address, resp.StatusCode, e, err)
		}
	}
}

func TestKickIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 { // the second finds the first pending
		if err := w.client().Kick(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stored := func(want string) {
		t.Helper()
		if got, _, err := w.conn.Get(ctx, paasta.KickPath(cluster, "web")); err != nil || string(got) != want {
			t.Errorf("the kick's node holds %q, %v; want %q", got, err, want)
		}
	}
	stored("")
	response, err := http.Post(w.url+"/v1/services/web/kick?from=hook", "", nil)
	if err != nil || response.StatusCode != http.StatusAccepted {
		t.Errorf("a hook's kick while another is pending: %v, %v", response, err)
	}
	response.Body.Close()
	stored(paasta.KickFromHook)
	if err := w.client().Kick(ctx, "nope"); !IsNotFound(err) {
		t.Errorf("kick of an unknown service: %v", err)
	}
}

// TestOnePartDown takes away one part after the other, and looks at what is
// still answered.
func TestOnePartDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	has := func(s InstanceStatus, what string) bool {
		return strings.Contains(strings.Join(s.Notes, "\n"), what)
	}

	w.slow.Store(int64(5 * time.Second))
	began := time.Now()
	s := w.main()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a silent agent held the answer for %v", took)
	}
	if !has(s, "no answer in time") || s.Running != 3 || s.OK {
		t.Errorf("silent agent: %+v", s)
	}
	w.slow.Store(0)

	w.agent.Close()
	if s = w.main(); s.Running != 3 || s.Bounce == nil || s.Smartstack.Hosts[0].Error == "" || !has(s, "host1") {
		t.Errorf("agent down: %+v", s)
	}
	w.deployd.Close()
	if s = w.main(); s.Running != 3 || s.Bounce != nil || !has(s, "ask deployd on master1") || s.AppID != appID {
		t.Errorf("deployd down: %+v", s)
	}
	w.marathon.Close()
	if s = w.main(); s.Running != 0 || s.GitSHA != sha || s.DeployStatus != "Unknown" || s.OK || !has(s, "what runs is unknown") {
		t.Errorf("marathon down: %+v", s)
	}
	w.zk.Stop()
	began = time.Now()
	if s = w.main(); s.GitSHA != "" || s.OK || !has(s, "which commit should run is unknown") || s.Expected != 3 {
		t.Errorf("zookeeper down: %+v", s)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("with everything down it took %v", took)
	}
	err := w.client().Kick(t.Context(), "web")
	var a *AnswerError
	if !errors.As(err, &a) || a.Code != http.StatusBadGateway || a.Answer.Hint == "" {
		t.Errorf("kick without ZooKeeper: %v", err)
	}
	if code, body := get(t, w.url+"/"); code != 200 || !strings.Contains(body, "What runs is unknown") || !strings.Contains(body, "Which commit should run is unknown") {
		t.Errorf("/ with everything down: %d\n%s", code, body)
	}
	if code, _ := get(t, w.url+"/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d; it is this server's health, not ZooKeeper's", code)
	}
}

func TestManyInstancesAreOneQuestion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tree := webTree()
	web := tree.Services["web"]
	i := web.Instances[cluster].Valid["main"]
	for n := range 12 {
		i.Name = fmt.Sprintf("more%d", n)
		web.Instances[cluster].Valid[i.Name] = i
	}
	w.server.changed(tree, nil)
	all, err := w.client().Status(t.Context(), "web", "")
	if err != nil || len(all) != 15 {
		t.Fatalf("%d, %v", len(all), err)
	}
}

func BenchmarkStatus(b *testing.B) {
	w := newWorld(b)
	for n := range 20 {
		w.announce(fmt.Sprintf("host%d", n+1), w.agent.URL)
	}
	c := w.client()
	for b.Loop() {
		if _, err := c.Status(b.Context(), "web", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// A ZooKeeper that lost its data refuses whoever has seen more of them: the API
// says that it has no session, and then gets another one.
func TestZooKeeperLosesItsData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := loadDocument(t)
	healthz := func() (int, string) { return w.validated(doc, "GET", "/healthz", "/healthz") }
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				code, body := healthz()
				t.Fatalf("not within a minute: %s; /healthz: %d %s", what, code, body)
			}
		}
	}
	w.zk.Stop()
	until("/healthz says so", func() bool {
		code, body := healthz()
		return code == http.StatusOK && strings.Contains(body, `"status":"no ZooKeeper session"`)
	})
	w.zk.Wipe()
	until("a session", func() bool { _, body := healthz(); return strings.Contains(body, `"status":"ok"`) })
	if err := w.client().Kick(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	if s := w.main(); s.Instance != "main" {
		t.Errorf("%+v", s)
	}
}
