package accesslog

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

func anything(string) (Known, bool) { return Known{}, true }

func gather(t testing.TB, c *Counter) []*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// aCounter is one whose time and knowledge a test sets.
type aCounter struct {
	Counter
	now   time.Time
	known map[string]Known
}

func newCounter() *aCounter {
	c := &aCounter{now: epoch, known: map[string]Known{"web.main": {}}}
	c.Now = func() time.Time { return c.now }
	c.Lookup = func(name string) (Known, bool) { k, ok := c.known[name]; return k, ok }
	return c
}

func (c *aCounter) take(format string, args ...any) { c.Take(fmt.Appendf(nil, format, args...)) }

func (c *aCounter) count() (n uint64) {
	for _, s := range c.Requests("web", LongestWindow).Series {
		n += s.Latency.Count
	}
	return n
}

func TestWindows(t *testing.T) {
	t.Parallel()
	c := newCounter()
	for range 30 { // one request a minute
		c.take("P1 web.main web.main a 200 -- 0 1000 0 GET /x")
		c.now = c.now.Add(time.Minute)
	}
	for window, want := range map[time.Duration]uint64{time.Minute: 1, 5 * time.Minute: 5, LongestWindow: 15, time.Hour: 15} {
		m := c.Requests("web", window)
		if len(m.Series) != 1 || m.Series[0].Latency.Count != want {
			t.Errorf("within %s: %+v, want %d requests", window, m.Series, want)
		}
		if asked := min(window, LongestWindow).Seconds(); m.Seconds < asked-30 || m.Seconds > asked+30 {
			t.Errorf("a window of %s was %v seconds", window, m.Seconds)
		}
	}
	view := dropwizard.NewView()
	c.AddTo(view)
	if x := view.Timers["web.main.GET /x"]; x.Count != 30 || x.P50 != 1 || x.M15Rate <= 0 {
		t.Errorf("timer: %+v", x)
	}
	m := c.Requests("web", time.Minute)
	if x := m.Calls[0]; x.Requests != 30 || !x.First.Equal(epoch) || !x.Last.Equal(epoch.Add(29*time.Minute)) {
		t.Errorf("call: %+v", x)
	}
	if m := c.Requests("we", time.Minute); len(m.Series)+len(m.Calls)+len(m.Versions) != 0 {
		t.Errorf("another service has %+v", m)
	}
}

// A clock that was ahead, as that of a machine that has just started may be,
// leaves nothing behind once it is right.
func TestAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	c := newCounter()
	ask := func(path string) { c.take("P1 web.main web.main a 200 -- 0 1000 0 GET %s", path) }
	c.now = epoch.AddDate(1, 0, 0)
	ask("/x")
	ask("/once")
	c.now = epoch
	for range 100 {
		ask("/x")
		c.now = c.now.Add(time.Minute)
	}
	for _, s := range c.services["web.main"].series {
		if len(s.cells) > slots {
			t.Errorf("%d minutes are kept", len(s.cells))
		}
	}
	if n := c.count(); n != 15 {
		t.Errorf("%d requests in fifteen minutes, want 15", n)
	}
	ask("/x")
	c.now = c.now.Add(-time.Second) // by moments only, and into the minute before
	ask("/x")
	if m := c.Requests("web", time.Minute); len(m.Series) != 1 || m.Series[0].Latency.Count != 3 {
		t.Errorf("in the last minute: %+v, want 3 requests", m.Series)
	}
}

// What a service asks of others is measured from when that was counted first,
// as what is asked of it.
func TestAWindowIsNotLongerThanWhatWasCounted(t *testing.T) {
	t.Parallel()
	c := newCounter()
	c.known["db.main"] = Known{}
	c.take("P1 db.main db.main a 200 -- 0 1000 web.main GET /x")
	c.now = c.now.Add(30 * time.Second)
	c.take("P1 db.main db.main a 200 -- 0 1000 web.main GET /x")
	if m := c.Requests("web", LongestWindow); m.Seconds != 30 {
		t.Errorf("2 requests in %v seconds, want 30", m.Seconds)
	}
}

// A task that is replaced at its address by one of the same version is one
// series to Prometheus, and always the same one.
func TestATaskThatIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCounter()
	for i, n := range []int{100, 3} {
		c.known["web.main"] = Known{Servers: map[string]Server{"a": {Version: "one", TaskID: fmt.Sprint(i)}}}
		c.now = c.now.Add(time.Minute)
		for range n {
			c.take("P1 web.main web.main a 200 -- 0 1000 0 GET /x")
		}
	}
	for range 20 {
		for _, f := range gather(t, &c.Counter) {
			if f.GetName() != MetricRequests {
				continue
			}
			if n := f.GetMetric()[0].GetHistogram().GetSampleCount(); len(f.GetMetric()) != 1 || n != 3 {
				t.Fatalf("%d series, the first of %d requests, want one of 3", len(f.GetMetric()), n)
			}
		}
	}
}

// A port that goes from one version to the next keeps what each has done apart,
// and a version that comes back begins anew.
func TestVersions(t *testing.T) {
	t.Parallel()
	c := newCounter()
	deploy := func(sha string) {
		c.known["web.main"] = Known{Servers: map[string]Server{"a": {Version: sha, Instance: "main", TaskID: "t-" + sha}}}
		c.now = c.now.Add(time.Minute)
	}
	ask := func(n, status, us int) {
		for range n {
			c.take("P1 web.main web.main a %d -- 0 %d 0 GET /x", status, us)
		}
	}
	deploy("one")
	ask(10, 200, 100)
	deploy("two")
	ask(5, 200, 300)
	ask(5, 500, 300)
	check := func(want map[string][2]uint64) {
		t.Helper()
		got := map[string][2]uint64{}
		for _, v := range c.Requests("web", LongestWindow).Versions {
			for _, e := range v.Endpoints {
				got[v.Version] = [2]uint64{got[v.Version][0] + e.Latency.Count, got[v.Version][1] + e.Errors}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("requests and errors by version: %v, want %v", got, want)
		}
	}
	check(map[string][2]uint64{"one": {10, 0}, "two": {10, 5}})
	for _, s := range c.Requests("web", LongestWindow).Series {
		if s.TaskID != "t-"+s.Version {
			t.Errorf("%+v", s)
		}
	}
	deploy("one") // a rollback
	ask(3, 200, 100)
	check(map[string][2]uint64{"one": {3, 0}, "two": {10, 5}})
	// Long after, only what was lately is compared.
	c.now = c.now.Add(halfLife + time.Minute)
	ask(1, 200, 100)
	c.now = c.now.Add(halfLife + time.Minute)
	ask(1, 200, 100)
	check(map[string][2]uint64{"one": {2, 0}, "two": {10, 5}})
	for i := range 10 {
		deploy(fmt.Sprint("v", i))
		ask(1, 200, 100)
	}
	if n := len(c.Requests("web", LongestWindow).Versions); n != maxVersions {
		t.Errorf("%d versions are kept", n)
	}
	gather(t, &c.Counter)
}

// Whatever callers do, memory is bounded and no request is lost.
func TestIsBounded(t *testing.T) {
	t.Parallel()
	c := newCounter()
	want := uint64(0)
	for i := range 20_000 {
		c.take("P1 web.main web.main a%d %d -- 0 %d caller%d GET /%c/%c", i%50, 100+i%500, i, i%1000, 'a'+i%26, 'a'+i/26%26)
		want++
	}
	if got := c.count(); got != want {
		t.Errorf("%d requests counted, want %d", got, want)
	}
	s := c.services["web.main"]
	if len(s.series) > maxOfOne+8 || len(s.callers) > maxCallers+1 || len(s.calls) > maxCalls || c.series.Load() != int64(len(s.series)) {
		t.Errorf("%d series (%d said), %d callers, %d calls", len(s.series), c.series.Load(), len(s.callers), len(s.calls))
	}
	gather(t, &c.Counter)
	// Services that are not ours make nothing.
	for i := range 100 {
		c.take("P1 x%d.main x%d.main a 200 -- 0 1 0 GET /x", i, i)
	}
	if len(c.services) != 1 || c.refused.Load() != 100 {
		t.Errorf("%d services, %d lines refused", len(c.services), c.refused.Load())
	}
	c.now = c.now.Add(2 * callLife)
	c.Sweep()
	if len(s.series)+len(s.callers)+len(s.calls)+len(s.servers)+len(s.endpoints.known) != 0 || c.series.Load() != 0 {
		t.Errorf("after two weeks: %d series, %d callers, %d calls, %d servers, %d endpoints", len(s.series), len(s.callers), len(s.calls), len(s.servers), len(s.endpoints.known))
	}
	delete(c.known, "web.main")
	c.Sweep()
	if len(c.services) != 0 {
		t.Error("a service that is gone is kept")
	}
}

func TestProxiedThroughIsNotAServerOfOurs(t *testing.T) {
	t.Parallel()
	c := newCounter()
	c.take("P1 web.main proxy.main p 200 -- 0 1 0 GET /x")
	c.take("P1 web.main web.main.region a 200 -- 0 1 0 GET /x")
	c.take("P1 web.main web.main <NOSRV> 503 SC 0 1 0 GET /x")
	got := map[string]bool{}
	for _, s := range c.Requests("web", time.Minute).Series {
		got[s.Server] = true
	}
	if fmt.Sprint(got) != "map[a:true none:true via proxy.main:true]" {
		t.Errorf("servers: %v", got)
	}
}

// The first requests to a server may be faster than the news of it.
func TestLabelsComeLate(t *testing.T) {
	t.Parallel()
	c := newCounter()
	c.take("P1 web.main web.main a 200 -- 0 1 0 GET /x")
	c.known["web.main"] = Known{Servers: map[string]Server{"a": {Version: "sha"}}}
	c.now = c.now.Add(refreshEvery / 10)
	c.take("P1 web.main web.main a 200 -- 0 1 0 GET /x")
	m := c.Requests("web", time.Minute)
	if len(m.Series) != 1 || m.Series[0].Version != "sha" || m.Series[0].Latency.Count != 2 || len(m.Versions) != 1 {
		t.Errorf("%+v, %+v", m.Series, m.Versions)
	}
}

func BenchmarkTake(b *testing.B) {
	servers := map[string]Server{}
	for i := range 10 {
		servers[fmt.Sprintf("host_10.0.0.%d:31000", i)] = Server{Version: "sha", Instance: "main"}
	}
	c := &Counter{Lookup: func(string) (Known, bool) {
		return Known{Servers: servers, Templates: []string{"/users/{id}"}}, true
	}}
	lines := someLines(2000)
	b.ReportAllocs()
	for i := range b.N {
		c.Take(lines[i%len(lines)])
	}
}

// someLines are lines as a host of some services writes them.
func someLines(n int) [][]byte {
	lines := make([][]byte, n)
	for i := range lines {
		name := fmt.Sprintf("service%d.main", i%7)
		path := fmt.Sprintf("/users/%d", i)
		if i%3 == 0 {
			path = fmt.Sprintf("/api/v1/things/%d/parts", i)
		}
		lines[i] = fmt.Appendf(nil, "P1 %s %s host_10.0.0.%d:31000 %d -- %d %d caller%d.main GET %s\n", name, name, i%10, 200+i%2*300, i%90, i%90*1000+i, i%5, path)
	}
	return lines
}
