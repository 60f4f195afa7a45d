package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/traffic"
)

// around is n durations spread evenly around a middle.
func around(middle time.Duration, n int) (h paasta.Histogram) {
	for i := range n {
		h.Observe(uint64(middle.Microseconds()) * uint64(900+200*i/n) / 1000)
	}
	return h
}

// someMetrics is a service with one slow backend, an old path that cron still
// calls, and a version that is slower than the one before.
func someMetrics() api.ServiceMetrics {
	const before, after = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
	series := func(server, endpoint, caller, class string, h paasta.Histogram) paasta.RequestSeries {
		return paasta.RequestSeries{Registration: "web.main", Server: server, Version: after, Endpoint: endpoint, Caller: caller, Class: class, Latency: h}
	}
	at := testNow.Add(-time.Hour)
	agent := paasta.AgentMetrics{
		Host: "host1", Seconds: 300,
		Series: []paasta.RequestSeries{
			series("host1_10.0.0.1:31000", "GET /users/{id}", "shop.main", "2xx", around(10*time.Millisecond, 3000)),
			series("host2_10.0.0.2:31000", "GET /users/{id}", "shop.main", "2xx", around(10*time.Millisecond, 3000)),
			series("host3_10.0.0.3:31000", "GET /users/{id}", "shop.main", "2xx", around(80*time.Millisecond, 3000)),
			series("host1_10.0.0.1:31000", "GET /old/path", "cron.main", "2xx", around(20*time.Millisecond, 6)),
			series("none", "GET /users/{id}", "shop.main", "5xx", around(time.Millisecond, 9)),
			{Registration: "search.main", Server: "s", Endpoint: "GET /q", Caller: "web.main", Class: "2xx", Latency: around(300*time.Millisecond, 900)},
			{Registration: "db.main", Server: "d", Endpoint: "tcp", Caller: "web.main", Class: "ok", Latency: around(2*time.Millisecond, 18000)},
		},
		Calls: []paasta.Call{
			{Registration: "web.main", Endpoint: "GET /users/{id}", Caller: "shop.main", Requests: 90000, Errors: 9, First: at, Last: testNow},
			{Registration: "web.main", Endpoint: "GET /old/path", Caller: "cron.main", Requests: 60, First: at, Last: testNow.Add(-3 * time.Minute)},
		},
		Versions: []paasta.VersionRequests{
			{Registration: "web.main", Version: before, Since: at.Add(-time.Hour), Last: at, Gone: true, Endpoints: []paasta.VersionEndpoint{
				{Endpoint: "GET /users/{id}", Errors: 3, Latency: around(10*time.Millisecond, 9000)}, {Endpoint: "GET /old/path", Latency: around(20*time.Millisecond, 30)},
			}},
			{Registration: "web.main", Version: after, Since: at, Last: testNow, Endpoints: []paasta.VersionEndpoint{
				{Endpoint: "GET /users/{id}", Errors: 9, Latency: around(15*time.Millisecond, 9000)}, {Endpoint: "GET /old/path", Latency: around(20*time.Millisecond, 6)},
			}},
		},
		Tasks: []paasta.TaskMetrics{
			{Registration: "web.main", Server: "host1_10.0.0.1:31000", Timers: map[string]paasta.TaskTimer{"render": {Count: 9, Rate: 1.5, Mean: 4, P99: 9}}, Counters: map[string]float64{"cache.hits": 7}},
			{Registration: "web.main", Server: "host2_10.0.0.2:31000", Error: "GET http://10.0.0.2:31000/status/metrics: 404 Not Found"},
		},
	}
	return api.ServiceMetrics{Cluster: "test", Report: traffic.New("web", []paasta.AgentMetrics{agent}, nil), Notes: []string{"the agent of host9 did not say what it counted: no answer in time"}}
}

func TestMetricsOutput(t *testing.T) {
	t.Parallel()
	env, out, _ := testEnv()
	onTerminal(env).Color = false
	printMetrics(env, someMetrics())
	golden(t, "metrics.txt", out.String())

	env, out, errOut := testEnv()
	printMetricsLines(env, []api.ServiceMetrics{someMetrics()})
	golden(t, "metrics.tsv", out.String())
	golden(t, "metrics.stderr", errOut.String())
}

// A person is told of what is not shown, and that no backend was asked at all.
func TestMetricsSaysWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	env, out, _ := testEnv()
	onTerminal(env).Color = false
	a := paasta.AgentMetrics{Seconds: 300}
	for i := range 2*rarely + 3 {
		a.Series = append(a.Series, paasta.RequestSeries{Registration: "web.main", Server: "none", Endpoint: "GET /", Caller: fmt.Sprint("c", i), Class: "5xx", Latency: around(time.Millisecond, 5)})
	}
	printMetrics(env, api.ServiceMetrics{Cluster: "test", Report: traffic.New("web", []paasta.AgentMetrics{a}, nil)})
	for _, want := range []string{"Backends: none was asked\n", "Callers (and 3 more: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
