package dropwizard

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is a time that only the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newClock() *clock { return &clock{time.Unix(1_700_000_000, 0)} }

func near(a, b float64) bool { return math.Abs(a-b) < 1e-8 }

// The reference's test vectors: three events, one tick, then a minute each.
func TestMeterRates(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := newMeter(c.now)
	m.Mark(3)
	c.advance(5 * time.Second)
	want := []struct{ m1, m5, m15 float64 }{
		{0.6, 0.6, 0.6},
		{0.22072766, 0.49123845, 0.56130419},
		{0.08120117, 0.40219203, 0.52510399},
		{0.02987224, 0.32928698, 0.49123845},
	}
	for i, w := range want {
		r := m.Rates()
		if math.Abs(r.M1-w.m1) > 1e-7 || math.Abs(r.M5-w.m5) > 1e-7 || math.Abs(r.M15-w.m15) > 1e-7 {
			t.Errorf("after %d minutes: %+v, want %+v", i, r, w)
		}
		c.advance(time.Minute)
	}
	if r := m.Rates(); !near(r.Mean, 3.0/(5+4*60)) || r.Count != 3 {
		t.Errorf("mean rate %v of %v events", r.Mean, r.Count)
	}
}

func TestMeterAfterALongSilence(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := newMeter(c.now)
	m.Mark(1000)
	c.advance(5000 * time.Hour)
	if r := m.Rates(); r.M15 > 1e-4 || r.Count != 1000 {
		t.Errorf("after months: %+v", r)
	}
	m.Mark(5)
	c.advance(tick)
	if r := m.Rates(); r.M1 <= 0 {
		t.Errorf("it no longer counts: %+v", r)
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	c := newClock()
	h := newHistogram(c.now)
	for _, v := range []float64{5, 1, 2, 3, 4} {
		h.Update(v)
	}
	got := h.Summary()
	if !near(math.Round(got.StdDev*1e4)/1e4, 1.5811) {
		t.Errorf("stddev %v, want 1.5811", got.StdDev)
	}
	got.StdDev = 0
	want := Summary{Count: 5, Max: 5, Mean: 3, Min: 1, P50: 3, P75: 4.5, P95: 5, P98: 5, P99: 5, P999: 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if got := newHistogram(c.now).Summary(); got != (Summary{}) {
		t.Errorf("an empty histogram says %+v", got)
	}
}

// Recent values weigh more: after ten minutes of silence, new values fill the
// sample although as many old ones were seen.
func TestReservoirFavoursTheRecent(t *testing.T) {
	t.Parallel()
	c := newClock()
	h := newHistogram(c.now)
	for range 10 * reservoirSize {
		h.Update(1)
	}
	c.advance(10 * time.Minute)
	for range reservoirSize {
		h.Update(100)
	}
	if s := h.Summary(); s.P50 != 100 || s.Count != 11*reservoirSize {
		t.Errorf("median %v of %v, want 100", s.P50, s.Count)
	}
}

func TestReservoirLivesThroughDays(t *testing.T) {
	t.Parallel()
	c := newClock()
	h := newHistogram(c.now)
	for hour := range 24 * 60 {
		h.Update(float64(hour))
		c.advance(time.Hour)
	}
	h.Update(7)
	s := h.Summary()
	if math.IsNaN(s.Mean) || math.IsInf(s.Max, 0) || s.Count != 24*60+1 {
		t.Errorf("after two months: %+v", s)
	}
	for i, x := range h.sample {
		if math.IsInf(x.priority, 0) || math.IsNaN(x.priority) {
			t.Fatalf("sample %d has priority %v", i, x.priority)
		}
	}
}

func TestServesTheDocument(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := newRegistry(c.now)
	r.Counter("jobs").Inc(17)
	r.Gauge("queue", func() float64 { return 4 })
	r.Gauge("broken", func() float64 { return math.NaN() })
	r.Histogram("size").Update(42)
	r.Meter("hits").Mark(2)
	h := r.Middleware("hello", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c.advance(3 * time.Millisecond)
		if req.URL.Path == "/bad" {
			http.Error(w, "no", http.StatusBadGateway)
		}
	}))
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	for _, path := range []string{"/", "/", "/bad"} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	var doc map[string]map[string]map[string]any
	var raw map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &raw); err != nil {
		t.Fatal(err)
	}
	keys := slices.Sorted(maps.Keys(raw))
	if diff := cmp.Diff([]string{"counters", "gauges", "histograms", "meters", "timers", "version"}, keys); diff != "" {
		t.Errorf("top-level keys (-want +got):\n%s", diff)
	}
	delete(raw, "version")
	text, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]any{
		"17": doc["counters"]["jobs"]["count"], "2": doc["counters"]["hello.2xx"]["count"],
		"1": doc["counters"]["hello.5xx"]["count"], "4": doc["gauges"]["queue"]["value"],
		"42": doc["histograms"]["size"]["p999"], "3": doc["timers"]["hello"]["p50"],
	} {
		if want := json.Number(what); json.Number(jsonText(got)) != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if diff := cmp.Diff([]string{"count", "duration_units", "m15_rate", "m1_rate", "m5_rate", "max", "mean", "mean_rate", "min", "p50", "p75", "p95", "p98", "p99", "p999", "rate_units", "stddev"},
		slices.Sorted(maps.Keys(doc["timers"]["hello"]))); diff != "" {
		t.Errorf("fields of a timer (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"count", "m15_rate", "m1_rate", "m5_rate", "mean_rate", "units"},
		slices.Sorted(maps.Keys(doc["meters"]["hits"]))); diff != "" {
		t.Errorf("fields of a meter (-want +got):\n%s", diff)
	}
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestMiddlewareCountsAPanic(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	h := r.Middleware("boom", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}()
	if got := r.Counter("boom.5xx").Count(); got != 1 {
		t.Errorf("%v answers of 5xx, want 1", got)
	}
}

// One value that is no number does not cost a service all its metrics.
func TestWhatIsNoNumberIsLeftOut(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 2} {
		r.Counter("c").Inc(x)
		r.Histogram("h").Update(x)
		r.Meter("m").Mark(x)
		r.Gauge("g", func() float64 { return math.NaN() })
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	var v View
	if err := json.Unmarshal(w.Body.Bytes(), &v); w.Code != http.StatusOK || err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if h := v.Histograms["h"]; v.Counters["c"].Count != 2 || h.Count != 1 || h.Max != 2 || v.Meters["m"].Count != 2 {
		t.Errorf("%+v", v)
	}
}

// A handler that streams finds that it can.
func TestMiddlewareFlushes(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	w := httptest.NewRecorder()
	func() {
		defer func() { _ = recover() }()
		r.Middleware("stream", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	}()
	if !w.Flushed || r.View().Counters["stream.2xx"].Count != 1 {
		t.Errorf("flushed %v, counted %v", w.Flushed, r.View().Counters)
	}
}

func BenchmarkTimer(b *testing.B) {
	timer := NewRegistry().Timer("x")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			timer.Update(time.Millisecond)
		}
	})
}
