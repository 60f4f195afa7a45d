package collect

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

var (
	taskLabels  = []string{"registration", "server", "instance", "version", "name"}
	descUp      = prometheus.NewDesc("smartstack_task_metrics_up", "1 when a local task showed its metrics (metrics_uri) when it was asked last.", taskLabels[:4], nil)
	descCounter = prometheus.NewDesc("smartstack_task_counter", "A counter of a local task.", taskLabels, nil)
	descGauge   = prometheus.NewDesc("smartstack_task_gauge", "A gauge of a local task.", taskLabels, nil)
	descMeter   = prometheus.NewDesc("smartstack_task_meter_total", "Events of a meter of a local task.", taskLabels, nil)
	descTimer   = prometheus.NewDesc("smartstack_task_timer", "A timer of a local task, in the task's own unit (milliseconds as a rule).", taskLabels, nil)
	descHist    = prometheus.NewDesc("smartstack_task_histogram", "A histogram of a local task.", taskLabels, nil)
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descCounter, descGauge, descMeter, descTimer, descHist} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	seen := maps.Clone(c.seen)
	c.mu.Unlock()
	done := map[[4]string]bool{}
	for t, a := range seen {
		labels := [4]string{t.Registration, t.Server, t.Instance, t.Version}
		if done[labels] {
			continue
		}
		done[labels] = true
		up := 1.0
		if a.err != nil {
			up = 0
		}
		ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up, labels[:]...)
		with := func(name string) []string { return append(labels[:len(labels):len(labels)], name) }
		for name, x := range a.view.Counters {
			// A Dropwizard counter may go down.
			ch <- prometheus.MustNewConstMetric(descCounter, prometheus.GaugeValue, x.Count, with(name)...)
		}
		for name, x := range a.view.Gauges {
			ch <- prometheus.MustNewConstMetric(descGauge, prometheus.GaugeValue, x.Value, with(name)...)
		}
		for name, x := range a.view.Meters {
			ch <- prometheus.MustNewConstMetric(descMeter, prometheus.CounterValue, x.Count, with(name)...)
		}
		for name, x := range a.view.Timers {
			ch <- summary(descTimer, x.Summary, with(name))
		}
		for name, x := range a.view.Histograms {
			ch <- summary(descHist, x, with(name))
		}
	}
}

func summary(desc *prometheus.Desc, x dropwizard.Summary, labels []string) prometheus.Metric {
	quantiles := map[float64]float64{.5: x.P50, .75: x.P75, .95: x.P95, .98: x.P98, .99: x.P99, .999: x.P999}
	return prometheus.MustNewConstSummary(desc, uint64(max(x.Count, 0)), x.Mean*x.Count, quantiles, labels...)
}
