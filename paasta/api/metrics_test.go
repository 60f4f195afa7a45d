package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/traffic"
)

// counted is what an agent has counted of web: a version that should run, and
// one before it that was faster.
func counted(host string) paasta.AgentMetrics {
	fast, slow := paasta.Histogram{}, paasta.Histogram{}
	for i := range 2000 {
		fast.Observe(uint64(9000 + i))
		slow.Observe(uint64(39000 + i))
	}
	return paasta.AgentMetrics{
		Host: host, Service: "web", At: longAgo, Seconds: 60,
		Series: []paasta.RequestSeries{
			{Registration: "web.main", Server: "a", Version: sha, Endpoint: "GET /x", Caller: "shop.main", Class: "2xx", Latency: slow},
			{Registration: "db.main", Server: "d", Endpoint: "tcp", Caller: "web.main", Class: "ok", Latency: fast},
		},
		Calls: []paasta.Call{{Registration: "web.main", Endpoint: "GET /x", Caller: "shop.main", Requests: 2000, First: longAgo, Last: longAgo}},
		Versions: []paasta.VersionRequests{
			{Registration: "web.main", Version: sha, Since: longAgo, Last: longAgo, Endpoints: []paasta.VersionEndpoint{{Endpoint: "GET /x", Latency: slow}}},
			{Registration: "web.main", Version: "0ld0ld00", Since: longAgo.Add(time.Hour), Last: longAgo, Endpoints: []paasta.VersionEndpoint{{Endpoint: "GET /x", Latency: fast}}},
		},
		Tasks: []paasta.TaskMetrics{{
			Registration: "web.main", Server: "a", TaskID: "t1", At: longAgo, Timers: map[string]paasta.TaskTimer{"x": {Count: 3, P99: 4}},
			Counters: map[string]float64{"c": 1}, Gauges: map[string]float64{"g": 1},
		}},
		Log: paasta.AgentLog{Lines: 98, Dropped: 2},
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent := func(host string) string {
		return serveFake(t, map[string]http.HandlerFunc{"/v1/metrics": func(rw http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); q.Get("service") != "web" || q.Get("window") != "1m0s" {
				t.Errorf("asked %s", r.URL)
			}
			answer(counted(host))(rw, r)
		}}).URL
	}
	w.announce("host1", agent("host1"))
	w.announce("host2", agent("host2"))
	w.announce("host3", w.agent.URL) // an agent that knows nothing of metrics
	w.announce("host4", "http://127.0.0.1:1")
	m, err := w.client().Metrics(t.Context(), "web", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if m.Agents != 2 || m.Requests != 4000 || m.Cluster != cluster || len(m.Downstream) != 1 || len(m.Tasks) != 2 || m.Backends[0].P50 < 30 {
		t.Errorf("%+v", m)
	}
	// deployd wants sha, so that is the new one, whichever came last.
	if v := m.Versions[0]; v.After.Version != sha || v.Before.Version != "0ld0ld00" || v.Latency != traffic.Worse || v.Errors != traffic.Same {
		t.Errorf("%+v", v)
	}
	for i, want := range []string{"the agent of host3 .* older agent", "the agent of host4 .* refused", "4 of 200 requests"} {
		first, second, _ := strings.Cut(want, " .* ")
		if len(m.Notes) != 3 || !strings.Contains(m.Notes[i], first) || !strings.Contains(m.Notes[i], second) {
			t.Errorf("notes: %q, want %s", m.Notes, want)
		}
	}
	doc := loadDocument(t)
	const path = "/v1/services/{service}/metrics"
	for address, want := range map[string]int{
		"/v1/services/web/metrics?window=1m": 200, "/v1/services/none/metrics": 404, "/v1/services/web/metrics?window=1h": 400, "/v1/services/web/metrics?window=x": 400,
	} {
		if code, body := w.validated(doc, "GET", path, address); code != want {
			t.Errorf("%s: %d, want %d: %s", address, code, want, body)
		}
	}
}

func TestMetricsWithoutAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.conn.DeleteAll(t.Context(), paasta.AgentsPath); err != nil {
		t.Fatal(err)
	}
	m, err := w.client().Metrics(t.Context(), "web", 0)
	if err != nil || m.Requests != 0 || fmt.Sprint(m.Notes) != "[no host announces an agent, so nobody counts requests]" {
		t.Errorf("%+v, %v", m, err)
	}
}
