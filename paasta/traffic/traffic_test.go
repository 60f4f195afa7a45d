package traffic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// latencies draws n durations as services have them: many short, few long.
func latencies(r *rand.Rand, n int, medianMS float64) paasta.Histogram {
	var h paasta.Histogram
	for range n {
		h.Observe(uint64(medianMS * 1000 * math.Exp(r.NormFloat64()*.5)))
	}
	return h
}

func TestSureness(t *testing.T) {
	t.Parallel()
	if z := zScore(1); math.Abs(z-2.576) > .001 {
		t.Errorf("1 test: %v", z)
	}
	if z := zScore(1000); z < 4.2 || z > 4.5 {
		t.Errorf("1000 tests: %v", z)
	}
}

// What is the same is hardly ever called different, what differs is found once
// there is enough of it, and until then nothing is claimed.
func TestCompareQuantile(t *testing.T) {
	t.Parallel()
	const rounds = 100
	for _, c := range []struct {
		n      int
		factor float64
		q      float64
		often  Verdict // in at least 95 % of all rounds
		never  []Verdict
	}{
		{20, 1, .5, Unknown, []Verdict{Worse, Better}},
		{20, 2, .99, Unknown, []Verdict{Worse, Better, Same}},
		{5000, 1, .5, Same, []Verdict{Worse, Better}},
		{5000, 1.5, .5, Worse, []Verdict{Better, Same}},
		{5000, .6, .5, Better, []Verdict{Worse, Same}},
		{10000, 1.8, .99, Worse, []Verdict{Better, Same}},
		{10000, 1.03, .5, Same, []Verdict{Worse, Better}}, // real, and of no interest
	} {
		r := rand.New(rand.NewPCG(1, uint64(c.n)))
		got := map[Verdict]int{}
		for range rounds {
			got[compareQuantile(latencies(r, c.n, 20), latencies(r, c.n, 20*c.factor), c.q, zScore(1)).Verdict]++
		}
		if got[c.often] < rounds*95/100 {
			t.Errorf("%d requests, × %v, quantile %v: %v, want mostly %s", c.n, c.factor, c.q, got, c.often)
		}
		for _, v := range c.never {
			if got[v] > rounds*2/100 {
				t.Errorf("%d requests, × %v, quantile %v: %v, want no %s", c.n, c.factor, c.q, got, v)
			}
		}
	}
}

func TestCompareErrors(t *testing.T) {
	t.Parallel()
	z := zScore(1)
	for _, c := range []struct {
		before, of, after, ofAfter uint64
		want                       Verdict
	}{
		{0, 0, 5, 100, Unknown},
		{0, 50, 0, 50, Unknown}, // no error is no proof
		{0, 50, 5, 50, Unknown},
		{0, 50, 25, 50, Worse},
		{0, 5000, 0, 5000, Same},
		{10, 10000, 12, 10000, Same},
		{10, 10000, 200, 10000, Worse},
		{200, 10000, 10, 10000, Better},
		{0, 1_000_000, 100, 1_000_000, Same}, // surely more, and of no interest
	} {
		got := compareErrors(c.before, c.of, c.after, c.ofAfter, z)
		if got.Verdict != c.want || got.Low > got.High || got.Verdict == Unknown && got.Needs == 0 {
			t.Errorf("%d of %d, then %d of %d: %+v, want %s", c.before, c.of, c.after, c.ofAfter, got, c.want)
		}
	}
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is what two hosts count: web.main has three backends, of which the one
// called slow is; shop and cron call it; and web itself waits for db.
func world(r *rand.Rand, n int) []paasta.AgentMetrics {
	var agents []paasta.AgentMetrics
	for host := range 2 {
		a := paasta.AgentMetrics{Host: fmt.Sprint("host", host), Service: "web", Seconds: 60, Log: paasta.AgentLog{Lines: 10, Dropped: int64(host)}}
		for _, server := range []string{"a", "b", "slow"} {
			median := 10.0
			if server == "slow" {
				median = 40
			}
			a.Series = append(a.Series,
				paasta.RequestSeries{Registration: "web.main", Server: server, Version: "new", Endpoint: "GET /x", Caller: "shop.main", Class: "2xx", Latency: latencies(r, n, median)},
				// Only one backend gets this, which takes long everywhere.
				paasta.RequestSeries{Registration: "web.main", Server: "a", Version: "new", Endpoint: "GET /report", Caller: "cron.main", Class: "2xx", Latency: latencies(r, n/4, 500)},
			)
		}
		a.Series = append(a.Series,
			paasta.RequestSeries{Registration: "web.main", Server: "none", Endpoint: "GET /x", Caller: "shop.main", Class: "5xx", Latency: latencies(r, 10, 1)},
			paasta.RequestSeries{Registration: "db.main", Server: "d", Endpoint: "tcp", Caller: "web.main", Class: "ok", Latency: latencies(r, 2*n, 5)},
			paasta.RequestSeries{Registration: "search.main", Server: "s", Endpoint: "GET /q", Caller: "web.main", Class: "2xx", Latency: latencies(r, n/10, 300)},
		)
		a.Calls = []paasta.Call{
			{Registration: "web.main", Endpoint: "GET /old", Caller: "cron.main", Requests: 3, Errors: 1, First: epoch.Add(time.Duration(host)), Last: epoch.Add(time.Hour)},
			{Registration: "db.main", Endpoint: "tcp", Caller: "web.main", Requests: 3, First: epoch, Last: epoch},
		}
		a.Versions = []paasta.VersionRequests{
			{Registration: "web.main", Version: "old", Since: epoch, Last: epoch.Add(time.Hour), Gone: true, Endpoints: []paasta.VersionEndpoint{{Endpoint: "GET /x", Latency: latencies(r, n, 10)}}},
			{Registration: "web.main", Version: "new", Since: epoch.Add(time.Hour), Last: epoch.Add(2 * time.Hour), Endpoints: []paasta.VersionEndpoint{
				{Endpoint: "GET /x", Errors: uint64(n / 10), Latency: latencies(r, n, 30)}, {Endpoint: "GET /report", Latency: latencies(r, n, 500)},
			}},
		}
		agents = append(agents, a)
	}
	return agents
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := New("web", world(rand.New(rand.NewPCG(1, 1)), 1000), nil)
	if r.Requests != 2*(3*1000+3*250+10) || r.Agents != 2 || r.QPS != round(float64(r.Requests)/60) || r.LinesDropped != 1 || r.LinesCounted != 20 {
		t.Errorf("%+v", r)
	}
	if len(r.Endpoints) != 2 || r.Endpoints[0].Endpoint != "GET /x" || r.Endpoints[0].Errors != 20 || r.Endpoints[0].Classes["2xx"] != 6000 || r.Endpoints[1].P50 < 400 {
		t.Errorf("endpoints: %+v", r.Endpoints)
	}
	verdicts := map[string]Verdict{}
	for _, b := range r.Backends {
		verdicts[b.Server] = b.Verdict
		t.Log(b.Server, b.Verdict, b.Why)
	}
	if verdicts["slow"] != Worse || verdicts["a"] != Same || verdicts["b"] != Same || verdicts["none"] != Unknown {
		t.Errorf("backends: %v", verdicts)
	}
	if len(r.Callers) != 3 || r.Callers[0].Endpoint != "GET /old" || r.Callers[0].Requests != 6 || !r.Callers[0].First.Equal(epoch) || r.Callers[0].QPS != 0 {
		t.Errorf("callers: %+v", r.Callers)
	}
	if len(r.Downstream) != 2 || r.Downstream[0].Registration != "search.main" || r.Downstream[0].Share < .7 || r.Downstream[1].PerRequest < .5 {
		t.Errorf("downstream: %+v", r.Downstream)
	}
	v := r.Versions[0]
	if v.Before.Version != "old" || v.After.Version != "new" || v.Latency != Worse || v.Errors != Worse || len(v.Endpoints) != 1 || v.Endpoints[0].P50.Verdict != Worse {
		t.Errorf("versions: %+v", v)
	}
	// A rollback: the old one is what should run.
	r = New("web", world(rand.New(rand.NewPCG(1, 1)), 1000), func(version string) bool { return version == "old" })
	if v := r.Versions[0]; v.After.Version != "old" || v.Latency != Better || v.Errors != Better {
		t.Errorf("after a rollback: %+v", v)
	}
}

func TestTooFewRequestsSaySo(t *testing.T) {
	t.Parallel()
	r := New("web", world(rand.New(rand.NewPCG(1, 1)), 5), nil)
	for _, b := range r.Backends {
		if b.Verdict != Unknown || b.Why == "" {
			t.Errorf("%+v", b)
		}
	}
	v := r.Versions[0]
	if v.Latency != Unknown || v.Errors != Unknown || v.Endpoints[0].P99.Needs < 500 {
		t.Errorf("versions: %+v", v)
	}
	if r := New("web", nil, nil); r.Requests != 0 || r.Endpoints == nil || r.Versions == nil {
		t.Errorf("without agents: %+v", r)
	}
}

// A service of hundreds of backends has its answer at once.
func BenchmarkReport(b *testing.B) {
	a := paasta.AgentMetrics{Seconds: 300}
	for server := range 500 {
		for endpoint := range 20 {
			var h paasta.Histogram
			for i := range 200 {
				h.Observe(uint64(1000 + i*37 + server))
			}
			a.Series = append(a.Series, paasta.RequestSeries{
				Registration: "web.main", Server: fmt.Sprint("s", server), Endpoint: fmt.Sprint("e", endpoint), Class: "2xx", Latency: h,
			})
		}
	}
	for b.Loop() {
		New("web", []paasta.AgentMetrics{a}, nil)
	}
}
