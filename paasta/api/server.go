package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/rungroup"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/zk"
)

// Marathon is what the API asks of one Marathon.
type Marathon interface {
	// AppsOf lists the apps of one instance with their tasks.
	AppsOf(ctx context.Context, id paasta.InstanceID) ([]marathon.App, error)
	// Apps lists all apps with their tasks, ours and others'.
	Apps(ctx context.Context) ([]marathon.App, error)
	// Queue lists the apps whose tasks wait for a launch.
	Queue(ctx context.Context) ([]marathon.QueueItem, error)
	// Ended lists the tasks of one instance that have ended and whose output may
	// still be found, oldest first.
	Ended(ctx context.Context, id paasta.InstanceID) ([]marathon.Ended, error)
	// TaskLogs calls each with a task's output: see marathon.Client.
	TaskLogs(ctx context.Context, task string, tail int, follow bool, each func(stream string, at time.Time, text string) error) error
}

// Options is what an API server is made of. Every field but TLS is required.
type Options struct {
	Cluster  string
	SoaDir   string
	Clusters []string // all known
	ZK       *zk.Conn
	Marathon []Marathon // one a framework
	Listener net.Listener
	// TLS is nil only where Access allows everybody, on loopback.
	TLS    *tls.Config
	Access Access
	Log    *slog.Logger
}

// A server answers. It keeps nothing but the latest soa-configs.
type server struct {
	Options
	tree     atomic.Pointer[soaconfig.Tree] // nil until the first reading
	asks     *http.Client                   // for deployd and the agents
	now      func() time.Time
	page     overview
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	metrics  *prometheus.Registry
}

// Run serves the API until ctx ends, and then returns nil. It answers before
// ZooKeeper, Marathon, deployd or any agent does, and says what is missing.
func Run(ctx context.Context, o Options) error {
	s := newServer(o)
	l := o.Listener
	if o.TLS != nil {
		l = tls.NewListener(l, o.TLS)
	}
	watcher := soaconfig.Watcher{Dir: o.SoaDir, Options: soaconfig.Options{Clusters: o.Clusters}}

	g, _ := rungroup.WithContext(ctx)
	g.Go("http server", httpserver.Serve(l, httpServer(s.handler(), o.Log), 5*time.Second))
	g.Go("soa-configs watcher", func(ctx context.Context) error {
		return watcher.Run(ctx, s.changed, func(err error) {
			o.Log.Warn("read soa-configs failed, the last reading stands", "path", o.SoaDir, "err", err)
		})
	})
	o.Log.Info("api started", "addr", o.Listener.Addr().String(), "tls", o.TLS != nil)
	err := g.Wait()
	o.Log.Info("api stopped")
	return err
}

func newServer(o Options) *server {
	s := &server{
		Options: o,
		asks:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}},
		now:     time.Now,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paasta_api_requests_total", Help: "Requests that were answered, by route, method and status code.",
		}, []string{"route", "method", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "paasta_api_request_seconds", Help: "Time until an answer was complete, by route; not of followed logs.",
			Buckets: []float64{.005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
		metrics: prometheus.NewRegistry(),
	}
	s.metrics.MustRegister(s.requests, s.took, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "paasta_api_soaconfig_problems", Help: "Problems in soa-configs at the latest reading.",
		}, func() float64 {
			if t := s.tree.Load(); t != nil {
				return float64(len(t.Problems))
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "paasta_api_zookeeper_connected", Help: "1 while there is a ZooKeeper session.",
		}, func() float64 {
			if s.ZK.Connected() {
				return 1
			}
			return 0
		}))
	return s
}

func (s *server) changed(t *soaconfig.Tree, names []string) {
	s.tree.Store(t)
	s.Log.Debug("soa-configs were read", "services", len(t.Services), "changed", len(names), "problems", len(t.Problems))
}

func (s *server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})
}

// httpServer serves h with bounds on what a client may take.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:        h,
		ReadTimeout:    30 * time.Second,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// leader is the data of deployd's leader, found is false when there is none.
func (s *server) leader(ctx context.Context) (n paasta.LeaderNode, found bool, err error) {
	data, err := zk.CurrentLeader(ctx, s.ZK, paasta.LeaderPath(s.Cluster))
	if errors.Is(err, zk.ErrNoNode) {
		return n, false, nil
	}
	if err != nil {
		return n, false, fmt.Errorf("find deployd's leader: %w", err)
	}
	return n, true, decode(data, &n, "deployd's leader node")
}
