package deployd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what deployd measures.
type metrics struct {
	leading     prometheus.Gauge
	elections   prometheus.Counter
	rounds      *prometheus.HistogramVec // by outcome
	waited      prometheus.Histogram
	queue       *prometheus.GaugeVec // by state: waiting, due, busy
	states      *prometheus.GaugeVec // by state of the bounce
	steps       *prometheus.CounterVec
	tagReads    *prometheus.HistogramVec // by outcome
	events      prometheus.Counter
	attached    prometheus.Counter
	heldEntries prometheus.Gauge
	heldRemoval prometheus.Gauge
	soaProblems prometheus.Gauge
	soaFailed   prometheus.Counter
	stale       prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	name := func(s string) string { return "paasta_deployd_" + s }
	gauge := func(n, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name(n), Help: help})
	}
	counter := func(n, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
	}
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	m := &metrics{
		leading:   gauge("leading", "1 while this deployd leads."),
		elections: counter("leader_elections_total", "How often this deployd became the leader."),
		rounds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("round_seconds"), Help: "Duration of rounds, by outcome.", Buckets: buckets,
		}, []string{"outcome"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("round_wait_seconds"), Help: "How long instances that were due waited for their round.", Buckets: buckets,
		}),
		queue: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("queue_instances"), Help: "Instances in the queue: waiting, of those due, and being worked on.",
		}, []string{"state"}),
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("instances"), Help: "Instances by the state of their bounce.",
		}, []string{"state"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("steps_total"), Help: "Steps made, by name.",
		}, []string{"step"}),
		tagReads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("tag_read_seconds"), Help: "Duration of reads of a repository's tags, by outcome.", Buckets: buckets,
		}, []string{"outcome"}),
		events:      counter("marathon_events_total", "Events of Marathon's stream."),
		attached:    counter("marathon_attached_total", "How often Marathon's stream was (re)connected."),
		heldEntries: gauge("held_removals", "Entries whose unplanned removal is held back."),
		heldRemoval: gauge("held_instances", "1 while the removal of instances is held back."),
		soaProblems: gauge("soa_problems", "Problems in soa-configs."),
		soaFailed:   counter("soa_failures_total", "How often soa-configs could not be read."),
		stale:       gauge("stale_instances", "Instances whose app differs in system-wide values from what it should be."),
	}
	r.MustRegister(m.leading, m.elections, m.rounds, m.waited, m.queue, m.states, m.steps, m.tagReads, m.events,
		m.attached, m.heldEntries, m.heldRemoval, m.soaProblems, m.soaFailed, m.stale)
	return m
}

func (m *metrics) queued(waiting, due, busy int) {
	m.queue.WithLabelValues("waiting").Set(float64(waiting))
	m.queue.WithLabelValues("due").Set(float64(due))
	m.queue.WithLabelValues("busy").Set(float64(busy))
}

func (m *metrics) tags(what string, took time.Duration) {
	m.tagReads.WithLabelValues(what).Observe(took.Seconds())
}
