package metrics

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestView(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reloads_total"}, []string{"result"})
	counter.WithLabelValues("done").Add(3)
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "up"})
	gauge.Set(1)
	odd := prometheus.NewGauge(prometheus.GaugeOpts{Name: "odd"})
	odd.Set(math.NaN())
	hist := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Buckets: []float64{.1, 1}})
	for _, x := range []float64{.05, .05, .5, 7} {
		hist.Observe(x)
	}
	empty := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "never_seconds", Buckets: []float64{.1, 1}})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "size", Objectives: map[float64]float64{.5: .01, .99: .001}})
	summary.Observe(4)
	left := prometheus.NewGauge(prometheus.GaugeOpts{Name: "left_out"})
	r.MustRegister(counter, gauge, odd, hist, empty, summary, left)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	v := View(families, "left_out")
	if _, err := json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	if v.Counters["reloads_total.result.done"].Count != 3 || len(v.Gauges) != 1 || v.Gauges["up"].Value != 1 {
		t.Errorf("%+v", v)
	}
	if h := v.Histograms["took_seconds"]; h.Count != 4 || h.P50 != .1 || h.P99 != 1 || h.Mean != 1.9 {
		t.Errorf("histogram: %+v", h)
	}
	if h := v.Histograms["never_seconds"]; h.Count != 0 || h.P99 != 0 {
		t.Errorf("empty: %+v", h)
	}
	if h := v.Histograms["size"]; h.P50 != 4 || h.P99 != 4 || h.Mean != 4 {
		t.Errorf("summary: %+v", h)
	}
}
