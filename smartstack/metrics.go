package smartstack

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/metrics"
	"github.com/gopaasta/paasta/paasta/rungroup"
	"github.com/gopaasta/paasta/smartstack/internal/accesslog"
	"github.com/gopaasta/paasta/smartstack/internal/address"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
	"github.com/gopaasta/paasta/smartstack/internal/collect"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// requestLog is what the agent knows from HAProxy's log, and from the tasks of
// this host.
type requestLog struct {
	host    string
	log     *slog.Logger
	path    string            // of the socket; "" without one
	socket  *accesslog.Socket // nil without one
	counter *accesslog.Counter
	tasks   *collect.Collector
	agent   atomic.Pointer[agent.Agent]

	begun   time.Time
	dropped atomic.Int64
	pid     int // of the process that was asked last
	last    int // what it had dropped
}

var descDropped = prometheus.NewDesc("smartstack_log_dropped_total", "Lines that HAProxy could not send to the agent: requests that no metric knows of.", nil, nil)

// newRequestLog listens for HAProxy's log, if that is wanted. What does not work
// is logged: an agent that hears nothing serves all the same.
func newRequestLog(o Options, dir string) *requestLog {
	r := &requestLog{host: o.Config.Hostname, log: o.Log, begun: time.Now()}
	r.counter = &accesslog.Counter{Lookup: r.lookup}
	r.tasks = &collect.Collector{Tasks: r.localTasks, Log: o.Log}
	if o.Config.Smartstack.LogSocket {
		path := filepath.Join(dir, "log.sock")
		socket, err := accesslog.Listen(path)
		switch {
		case err != nil:
			o.Log.Error("open the log socket failed: there are no metrics of requests", "err", err)
		case socket.QueueErr != nil:
			o.Log.Warn("bursts of requests may be missing in metrics; set net.unix.max_dgram_qlen to 4096", "queue", socket.Queue, "err", socket.QueueErr)
		}
		if err == nil {
			r.path, r.socket = path, socket
			o.Metrics.MustRegister(r.counter, socket)
		}
	}
	o.Metrics.MustRegister(r, r.tasks)
	return r
}

// formats returns what HAProxy is told to log, "" for nothing.
func (r *requestLog) formats() (http, tcp string) {
	if r.socket == nil {
		return "", ""
	}
	return accesslog.FormatHTTP, accesslog.FormatTCP
}

// lookup tells the counter about a registration.
func (r *requestLog) lookup(registration string) (accesslog.Known, bool) {
	a := r.agent.Load()
	if a == nil {
		return accesslog.Known{}, false
	}
	servers, m, ok := a.Labels(registration)
	k := accesslog.Known{Servers: make(map[string]accesslog.Server, len(servers)), Templates: m.Templates}
	for name, l := range servers {
		k.Servers[name] = accesslog.Server{Version: l.Version, Instance: l.Instance, TaskID: l.TaskID}
	}
	return k, ok
}

// localTasks lists the tasks of this host that show metrics.
func (r *requestLog) localTasks() []collect.Task {
	a := r.agent.Load()
	if a == nil {
		return nil
	}
	ours := address.Ours()
	var tasks []collect.Task
	for _, name := range a.Measured() {
		servers, m, _ := a.Labels(name)
		for server, l := range servers {
			if ip := l.Addr.Addr(); ip.IsLoopback() || slices.Contains(ours, ip.String()) {
				tasks = append(tasks, collect.Task{
					Registration: name, Server: server, TaskID: l.TaskID, Instance: l.Instance, Version: l.Version,
					URL: "http://" + l.Addr.String() + m.URI,
				})
			}
		}
	}
	return tasks
}

// start gives run what reads the log, and asks tasks and HAProxy.
func (r *requestLog) start(run func(string, func(context.Context) error)) {
	run("metrics of tasks", r.tasks.Run)
	if r.socket == nil {
		return
	}
	run("log", func(ctx context.Context) error { return r.socket.Run(ctx, r.counter.Take) })
	round := 0
	run("log counts", rungroup.Every(5*time.Second, func(ctx context.Context) {
		if in, err := r.agent.Load().Info(ctx); err == nil {
			r.drops(in)
		}
		if round++; round%12 == 0 {
			r.counter.Sweep()
		}
	}))
}

// drops adds up what each process has dropped since we listen. What one that was
// adopted could not send to nobody is missing in no metric of ours.
func (r *requestLog) drops(in haproxy.Info) {
	switch {
	case r.pid == 0 && in.StartSeconds < r.begun.Unix():
		r.pid, r.last = in.PID, in.DroppedLogs
	case in.PID != r.pid:
		r.pid, r.last = in.PID, 0
	}
	if n := in.DroppedLogs - r.last; n > 0 {
		r.dropped.Add(int64(n))
		r.log.Warn("HAProxy dropped log lines: metrics lack these requests", "lines", n, "queue", r.socket.Queue)
	}
	r.last = in.DroppedLogs
}

// Describe implements prometheus.Collector.
func (r *requestLog) Describe(ch chan<- *prometheus.Desc) { ch <- descDropped }

// Collect implements prometheus.Collector.
func (r *requestLog) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(r.dropped.Load()))
}

// graphite sends everything to a Carbon server; nil when there is none.
func graphite(o Options) *metrics.Graphite {
	if o.Config.Smartstack.Graphite == "" {
		return nil
	}
	g := &metrics.Graphite{
		Addr:   o.Config.Smartstack.Graphite,
		Prefix: "paasta." + strings.ReplaceAll(o.Config.Hostname, ".", "_"),
		Every:  cmp.Or(o.GraphiteEvery, 10*time.Second),
		Gather: o.Metrics,
		Log:    o.Log,
	}
	g.Register(o.Metrics)
	return g
}

// routes are the pages with metrics, in each encoding.
func (r *requestLog) routes(all *prometheus.Registry) map[string]http.Handler {
	return map[string]http.Handler{
		"GET /metrics":      promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}), // one that is wrong costs no other
		"GET /metrics.json": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { r.dropwizard(w, all) }),
		"GET /v1/metrics":   http.HandlerFunc(r.requests),
	}
}

// dropwizard serves everything as Dropwizard's JSON: requests as timers, and
// what the agent counts of itself.
func (r *requestLog) dropwizard(w http.ResponseWriter, all prometheus.Gatherer) {
	families, err := all.Gather()
	if err != nil {
		r.log.Warn("some metrics could not be read", "err", err) // the others come with it
	}
	view := metrics.View(families, accesslog.MetricRequests)
	r.counter.AddTo(view)
	httpserver.WriteJSON(w, view)
}

// requests answers what api wants to know about one service.
func (r *requestLog) requests(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	service, window := q.Get("service"), 5*time.Minute
	if service == "" {
		http.Error(w, "service: say which, e.g. ?service=web", http.StatusBadRequest)
		return
	}
	if text := q.Get("window"); text != "" {
		var err error
		if window, err = time.ParseDuration(text); err != nil || window <= 0 || window > accesslog.LongestWindow {
			http.Error(w, "window: want a duration of up to "+accesslog.LongestWindow.String()+", e.g. 5m", http.StatusBadRequest)
			return
		}
	}
	m := r.counter.Requests(service, window)
	m.Host, m.Tasks, m.Log.Dropped = r.host, r.tasks.Of(service), r.dropped.Load()
	if r.socket != nil {
		m.Log.Queue = r.socket.Queue
	}
	httpserver.WriteJSON(w, m)
}
