package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// Metrics are what an agent counts. What it has now is collected when asked for
// (an Agent is a prometheus.Collector).
type Metrics struct {
	reloads    *prometheus.CounterVec
	reasons    *prometheus.CounterVec
	reloadTook prometheus.Histogram
	commands   *prometheus.CounterVec
	deaths     prometheus.Counter
}

// NewMetrics registers the metrics of an agent.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smartstack_reloads_total", Help: "Reloads of HAProxy, by result (done, failed).",
		}, []string{"result"}),
		reasons: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smartstack_reload_reasons_total", Help: "What reloads were for, by reason; one reload may have several.",
		}, []string{"reason"}),
		reloadTook: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "smartstack_reload_seconds", Help: "How long reloads took, check and wait for the new process included.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "smartstack_server_changes_total", Help: "Changes of servers at run time, without a reload, by kind.",
		}, []string{"op"}),
		deaths: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "smartstack_haproxy_deaths_total", Help: "How often HAProxy ended though nobody asked it to.",
		}),
	}
	r.MustRegister(m.reloads, m.reasons, m.reloadTook, m.commands, m.deaths)
	m.reloads.WithLabelValues("done")
	m.reloads.WithLabelValues("failed")
	return m
}

// reloaded counts a reload and what it was for.
func (m *Metrics) reloaded(why []haproxy.Reason, took time.Duration) {
	for _, r := range why {
		m.reasons.WithLabelValues(string(r.Kind)).Inc()
	}
	m.reloads.WithLabelValues("done").Inc()
	m.reloadTook.Observe(took.Seconds())
}

var (
	descBackends = prometheus.NewDesc("smartstack_backends", "Backends of a registration, by state (up, down, drain, maint, probing, elsewhere).", []string{"registration", "state"}, nil)
	descHeld     = prometheus.NewDesc("smartstack_backends_held", "Backends that the registry does not name any more and that are kept.", []string{"registration"}, nil)
	descAge      = prometheus.NewDesc("smartstack_registry_age_seconds", "Time since the registry answered for a registration.", []string{"registration"}, nil)
	descBad      = prometheus.NewDesc("smartstack_bad_entries", "Znodes of a registration that are no entries.", []string{"registration"}, nil)
	descHosts    = prometheus.NewDesc("smartstack_unresolved_hosts", "Hosts that entries of a registration give by name and whose last look-up failed.", []string{"registration"}, nil)
	descBroken   = prometheus.NewDesc("smartstack_namespace_broken", "1 for a namespace that is not served as soa-configs have it.", []string{"registration"}, nil)
	descUp       = prometheus.NewDesc("smartstack_haproxy_up", "1 while HAProxy runs.", nil, nil)
	descProcs    = prometheus.NewDesc("smartstack_haproxy_processes", "HAProxy processes, those that finish old connections included.", nil, nil)
	descQueue    = prometheus.NewDesc("smartstack_haproxy_queue", "Requests that wait in HAProxy for a server, by backend.", []string{"backend"}, nil)
	descProbes   = prometheus.NewDesc("smartstack_probes", "Servers that wait for their first probe.", nil, nil)
	descZK       = prometheus.NewDesc("smartstack_zookeeper_connected", "1 while there is a session.", nil, nil)
	descPending  = prometheus.NewDesc("smartstack_reload_wanted", "1 while a change waits for a reload.", nil, nil)
)

// Describe implements prometheus.Collector.
func (v *view) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBackends, descHeld, descAge, descBad, descHosts, descBroken, descUp, descProcs, descPending, descQueue, descProbes, descZK} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (v *view) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := v.Status()
	truth := map[bool]float64{true: 1}
	gauge(descUp, truth[s.HAProxy.PID != 0])
	gauge(descProcs, float64(len(s.HAProxy.Processes)))
	gauge(descPending, truth[len(s.HAProxy.ReloadWanted) > 0])
	if v.connected != nil {
		gauge(descZK, truth[v.connected()])
	}
	if scan, err := v.scanned(context.Background()); err == nil {
		for backend, n := range scan.queues {
			gauge(descQueue, float64(n), backend)
		}
	}
	probes := 0
	for _, r := range s.Registrations {
		probes += r.States["probing"]
	}
	gauge(descProbes, float64(probes))
	for _, r := range s.Registrations {
		for state, n := range r.States {
			gauge(descBackends, float64(n), r.Name, state)
		}
		gauge(descHeld, float64(r.Held), r.Name)
		gauge(descAge, r.AgeSeconds, r.Name)
		gauge(descBad, float64(len(r.Bad)), r.Name)
		failed := 0
		for _, h := range r.Hosts {
			if h.Error != "" {
				failed++
			}
		}
		if len(r.Hosts) > 0 {
			gauge(descHosts, float64(failed), r.Name)
		}
	}
	for _, r := range s.Registrations {
		if r.Nothing == s.Problems[r.Name] { // it is served, with nothing
			delete(s.Problems, r.Name)
		}
	}
	for name := range s.Problems {
		gauge(descBroken, 1, name)
	}
}
