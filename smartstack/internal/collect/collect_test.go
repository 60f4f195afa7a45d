package collect

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers as a task, and returns the task.
func serve(t *testing.T, name string, h http.HandlerFunc) Task {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return Task{Registration: "web.main", Server: name, TaskID: "t-" + name, Instance: "main", Version: "sha", URL: srv.URL + "/status/metrics"}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	reg := dropwizard.NewRegistry()
	reg.Timer("render").Update(20 * time.Millisecond)
	reg.Counter("hits").Inc(3)
	reg.Meter("events").Mark(2)
	reg.Histogram("size").Update(5)
	reg.Gauge("load", func() float64 { return .5 })
	var asked atomic.Int64
	tasks := []Task{
		serve(t, "good", func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if !r.Close {
				t.Error("the connection would stay open, and hold up a drain")
			}
			reg.ServeHTTP(w, r)
		}),
		serve(t, "missing", http.NotFound),
		serve(t, "text", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }),
		serve(t, "other", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"utilization": "0.75"}`) }),
		serve(t, "huge", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"counters": {"`+strings.Repeat("x", maxBody)+`": {"count": 1}}}`)
		}),
		serve(t, "elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}),
		serve(t, "many", func(w http.ResponseWriter, _ *http.Request) {
			view := dropwizard.NewView()
			for i := range 3 * maxNames {
				view.Counters[fmt.Sprintf("c%03d", i)] = dropwizard.CounterView{Count: float64(i)}
			}
			view.Counters[strings.Repeat("long", 100)] = dropwizard.CounterView{Count: 1e9}
			_ = json.NewEncoder(w).Encode(view) // the last reader is stopped in the middle
		}),
	}
	c := &Collector{Tasks: func() []Task { return tasks }, Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); asked.Load() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not asked three times within 10s")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	errors := map[string]string{"missing": "404", "text": "no metrics", "other": "none of its keys", "huge": "more than", "elsewhere": "302"}
	all := c.Of("web")
	if len(all) != len(tasks) || len(c.Of("we")) != 0 {
		t.Fatalf("%d answers of %d, %d of another service", len(all), len(tasks), len(c.Of("we")))
	}
	for _, m := range all {
		if want := errors[m.Server]; (want == "") != (m.Error == "") || !strings.Contains(m.Error, want) {
			t.Errorf("%s: %q, want %q", m.Server, m.Error, want)
		}
		switch m.Server {
		case "good":
			if x := m.Timers["render"]; x.Count != 1 || x.P99 != 20 || m.Counters["hits"] != 3 || m.Gauges["load"] != .5 {
				t.Errorf("good: %+v", m)
			}
		case "many":
			if len(m.Counters) != maxNames || m.Counters["c599"] != 599 {
				t.Errorf("of %d counters %d are kept", 3*maxNames, len(m.Counters))
			}
		}
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := "[smartstack_task_counter smartstack_task_gauge smartstack_task_histogram smartstack_task_meter_total smartstack_task_metrics_up smartstack_task_timer]"
	if fmt.Sprint(names) != want {
		t.Errorf("families: %v", names)
	}

	// Those that are gone are forgotten.
	tasks = nil
	c.round(t.Context())
	if n := len(c.Of("web")); n != 0 {
		t.Errorf("%d tasks are kept", n)
	}
}
