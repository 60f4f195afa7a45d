package accesslog

import (
	"github.com/prometheus/client_golang/prometheus"
)

// MetricRequests is the family that all requests are in.
const MetricRequests = "smartstack_request_seconds"

var (
	descRequests = prometheus.NewDesc(MetricRequests,
		"Requests of callers on this host, by what was asked, who answered and how: their number and how long they took.",
		[]string{"registration", "server", "instance", "version", "endpoint", "class", "caller"}, nil)
	descLines   = prometheus.NewDesc("smartstack_log_lines_total", "Lines of HAProxy's log, by what became of them (counted, foreign: no request, refused: no service of ours).", []string{"result"}, nil)
	descSeries  = prometheus.NewDesc("smartstack_log_series", "Combinations of service, server, endpoint, class and caller that are counted.", nil, nil)
	descAtMost  = prometheus.NewDesc("smartstack_log_series_max", "How many of those there can be; what comes then counts as \"other\".", nil, nil)
	descWaiting = prometheus.NewDesc("smartstack_log_queue_max", "Lines that the kernel keeps while the agent is busy (net.unix.max_dgram_qlen).", nil, nil)
)

// bounds of the buckets that Prometheus gets, in µs. The Counter's own are many
// more; a scrape of all of them would be too big.
var bounds = []uint64{500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000}

// Describe implements prometheus.Collector.
func (c *Counter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRequests, descLines, descSeries, descAtMost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Counter) Collect(ch chan<- prometheus.Metric) {
	for result, n := range map[string]int64{"counted": c.lines.Load(), "foreign": c.foreign.Load(), "refused": c.refused.Load()} {
		ch <- prometheus.MustNewConstMetric(descLines, prometheus.CounterValue, float64(n), result)
	}
	ch <- prometheus.MustNewConstMetric(descSeries, prometheus.GaugeValue, float64(c.series.Load()))
	ch <- prometheus.MustNewConstMetric(descAtMost, prometheus.GaugeValue, maxSeries)
	for _, s := range c.all() {
		for _, m := range s.metrics() {
			ch <- m
		}
	}
}

// metrics are made under the lock, and sent without it.
func (s *service) metrics() []prometheus.Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	metrics := make([]prometheus.Metric, 0, len(s.series))
	// A task that went and came with nothing changed but its id has two series of
	// the same labels. The later one is shown, and so the count begins anew, once.
	shown := make(map[[7]string]*series, len(s.series))
	for k, x := range s.series {
		labels := [7]string{s.registration, k.server.name, k.server.Instance, k.server.Version, k.endpoint.name, k.class, k.caller.name}
		if other := shown[labels]; other == nil || x.last.After(other.last) {
			shown[labels] = x
		}
	}
	for labels, x := range shown {
		buckets := make(map[float64]uint64, len(bounds))
		for _, us := range bounds {
			buckets[float64(us)/1e6] = x.total.AtMost(us)
		}
		metrics = append(metrics, prometheus.MustNewConstHistogram(descRequests, x.total.Count, float64(x.total.Sum)/1e6, buckets, labels[:]...))
	}
	return metrics
}

// Describe implements prometheus.Collector.
func (s *Socket) Describe(ch chan<- *prometheus.Desc) { ch <- descWaiting }

// Collect implements prometheus.Collector.
func (s *Socket) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descWaiting, prometheus.GaugeValue, float64(s.Queue))
}
