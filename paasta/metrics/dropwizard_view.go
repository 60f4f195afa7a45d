package metrics

import (
	"math"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

// View encodes families as Dropwizard's JSON, without those named in but.
// Labels become parts of a name, as with Graphite: name.label.value….
// Histograms have quantiles as far as their buckets tell.
func View(families []*dto.MetricFamily, but ...string) dropwizard.View {
	view := dropwizard.NewView()
	for _, family := range families {
		if slices.Contains(but, family.GetName()) {
			continue
		}
		for _, m := range family.GetMetric() {
			var name strings.Builder
			name.WriteString(family.GetName())
			for _, l := range m.GetLabel() {
				name.WriteString("." + l.GetName() + "." + l.GetValue())
			}
			switch {
			case m.Counter != nil:
				view.Counters[name.String()] = dropwizard.CounterView{Count: m.Counter.GetValue()}
			case m.Gauge != nil:
				addGauge(view, name.String(), m.Gauge.GetValue())
			case m.Untyped != nil:
				addGauge(view, name.String(), m.Untyped.GetValue())
			case m.Summary != nil:
				h := dropwizard.Summary{Count: float64(m.Summary.GetSampleCount())}
				h.Mean = mean(m.Summary.GetSampleSum(), h.Count)
				for _, q := range m.Summary.GetQuantile() {
					setQuantile(&h, q.GetQuantile(), q.GetValue())
				}
				view.Histograms[name.String()] = h
			case m.Histogram != nil:
				h := dropwizard.Summary{Count: float64(m.Histogram.GetSampleCount())}
				h.Mean = mean(m.Histogram.GetSampleSum(), h.Count)
				for _, q := range []float64{.5, .75, .95, .98, .99, .999} {
					setQuantile(&h, q, bucketQuantile(m.Histogram, q))
				}
				h.Max = bucketQuantile(m.Histogram, 1)
				view.Histograms[name.String()] = h
			}
		}
	}
	return view
}

// addGauge leaves out what JSON cannot say.
func addGauge(view dropwizard.View, name string, value float64) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		view.Gauges[name] = dropwizard.GaugeView{Value: value}
	}
}

func mean(sum, count float64) float64 {
	if count == 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0
	}
	return sum / count
}

func setQuantile(h *dropwizard.Summary, q, value float64) {
	to := map[float64]*float64{.5: &h.P50, .75: &h.P75, .95: &h.P95, .98: &h.P98, .99: &h.P99, .999: &h.P999}[q]
	if to != nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
		*to = value
	}
}

// bucketQuantile is the upper bound of the bucket that a quantile lies in; that
// of the last one that has a bound for what is beyond.
func bucketQuantile(h *dto.Histogram, q float64) float64 {
	rank, bound := q*float64(h.GetSampleCount()), 0.0
	if h.GetSampleCount() == 0 {
		return 0
	}
	for _, b := range h.GetBucket() {
		if math.IsInf(b.GetUpperBound(), 1) {
			break
		}
		bound = b.GetUpperBound()
		if float64(b.GetCumulativeCount()) >= rank {
			break
		}
	}
	return bound
}
