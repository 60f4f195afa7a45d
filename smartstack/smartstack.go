// Package smartstack is the agent of every host: it keeps HAProxy in step with
// the registry (the synapse half), registers local services that are not on
// Marathon (the nerve half), and answers what it knows.
package smartstack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/rungroup"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/smartstack/internal/address"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
	"github.com/gopaasta/paasta/smartstack/internal/announce"
	"github.com/gopaasta/paasta/smartstack/internal/cleanup"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/nerve"
	"github.com/gopaasta/paasta/smartstack/internal/status"
)

// LocalTasks are the tasks that run on this host.
type LocalTasks = cleanup.Local

// A LocalTask is one of them.
type LocalTask = cleanup.Task

// Options is what a smartstack agent is made of.
type Options struct {
	Config   sysconfig.Config
	Registry registry.Registry
	// Session is where the agent announces itself; nil for nowhere.
	Session Session
	// Keeper registers local services; nil for no nerve half.
	Keeper nerve.Keeper
	// LocalTasks lists the tasks that run on this host, whatever runs them; an
	// error means unknown. Nil: entries of this host are left to deployd, and
	// callers in containers of this host stay unnamed.
	LocalTasks func(context.Context) (LocalTasks, error)
	// Cleaning is how often entries of this host are compared with its tasks, and
	// how old an entry is before it is touched; default 5s and 30s.
	Cleaning struct{ Every, Grace time.Duration }
	// GraphiteEvery is how often a Graphite server gets everything; default 10s.
	GraphiteEvery time.Duration
	// Guard starts the guard of the plug, see plug.Options; nil: nothing is held by ways
	// that need one.
	Guard    []string
	Listener net.Listener // serves /status, /healthz, /metrics, /v1
	Metrics  *prometheus.Registry
	Log      *slog.Logger
}

// A Session is what the agent needs of ZooKeeper besides the registry.
type Session interface {
	announce.Session
	Connected() bool
	Get(ctx context.Context, path string) ([]byte, zk.Stat, error)
}

var _ Session = (*zk.Conn)(nil)

// Run runs the agent until ctx ends, and then returns nil. HAProxy goes on. If
// one part fails, Run stops the others and returns its error.
func Run(ctx context.Context, o Options) error {
	c := o.Config.Smartstack
	dir, err := filepath.Abs(c.StateDir)
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	process := haproxy.Process{Binary: c.HAProxy, Dir: dir}
	if err := process.Tidy(); err != nil {
		o.Log.Warn("remove temporary files of a killed agent failed", "err", err)
	}
	bind, err := addresses(c.BindAddresses)
	if err != nil {
		return err
	}
	if c.SetupAddress {
		if err := address.Setup(bind); err != nil {
			o.Log.Error("set up the proxies' address failed", "err", err)
		}
	}
	stats, err := netip.ParseAddrPort(c.StatsListen)
	if err != nil {
		return fmt.Errorf("smartstack.stats_listen: %w", err)
	}
	announcer := &announce.Announcer{
		Session: o.Session,
		Node: paasta.AgentNode{
			Host: o.Config.Hostname, Status: cmp.Or(c.Announce, httpserver.URL(o.Listener.Addr(), o.Config.Hostname)), Location: o.Config.Location,
		},
		Addrs: address.Ours,
		Log:   o.Log,
	}
	hold := newHostPlug(ctx, c.Reload, o.Guard, bind, o.Log)
	defer hold.Close()
	o.Metrics.MustRegister(hold)
	var connected func() bool
	if o.Session != nil {
		connected = o.Session.Connected
	}
	requests := newRequestLog(o, dir) // before HAProxy, which must find its socket
	logHTTP, logTCP := requests.formats()
	var fleet fleetSize
	a := agent.New(agent.Options{
		Connected: connected,
		Process:   process,
		Global:    haproxy.Global{MaxConn: c.MaxConn, HardStop: c.Reload.HardStop, StatsListen: stats, Names: httpserver.HostNames(o.Config.Hostname), LogSocket: requests.path},
		Settings: discover.Settings{
			Location: discover.Location{Types: o.Config.LocationTypes, Here: o.Config.Location},
			Bind:     bind, Every: c.CheckInterval, Fast: c.CheckFast, LogHTTP: logHTTP, LogTCP: logTCP,
		},
		Registry: o.Registry, Plug: hold, Hold: c.Reload.Hold, Log: o.Log, Metrics: agent.NewMetrics(o.Metrics),
		Custom: customConfig(c.CustomConfig), SynapseDir: c.SynapseDir, MinInterval: c.Reload.MinInterval,
		Floor:   discover.Floor{Share: c.RemovalFloor, Window: c.RemovalWindow},
		Applied: announcer.Applied,
		Jitter:  fleet.jitter,
	})
	o.Metrics.MustRegister(a)
	requests.agent.Store(a)

	g, _ := rungroup.WithContext(ctx)
	g.Go("agent", a.Run)
	g.Go("soa-configs", func(ctx context.Context) error { return follow(ctx, o, a) })
	g.Go("held servers", func(ctx context.Context) error { return a.WatchHeld(ctx, 5*time.Second) })
	requests.start(g.Go)
	routes := requests.routes(o.Metrics)
	if carbon := graphite(o); carbon != nil {
		g.Go("graphite", carbon.Run)
	}
	if local := newNerve(o); local != nil {
		g.Go("nerve", local.Run)
		routes["GET /v1/services"] = localServices(local)
	}
	g.Go("http server", httpserver.Serve(o.Listener, &http.Server{Handler: handler(o, a, routes)}, time.Second))
	if o.Session != nil {
		g.Go("announce", announcer.Run)
		g.Go("fleet size", fleet.count(o.Session))
	}
	if o.LocalTasks != nil {
		cleaner := &cleanup.Cleaner{Registry: o.Registry, Cluster: o.Config.Cluster, Addrs: address.Ours, Nodes: a.Nodes, Tasks: o.LocalTasks, Every: o.Cleaning.Every, Grace: o.Cleaning.Grace, Log: o.Log}
		g.Go("cleanup", cleaner.Run)
		g.Go("callers", callers(o, a))
	}
	o.Log.Info("smartstack started", "addr", o.Listener.Addr().String())
	err = g.Wait()
	o.Log.Info("smartstack stopped")
	return err
}

// follow tells the agent about soa-configs.
func follow(ctx context.Context, o Options, a *agent.Agent) error {
	w := &soaconfig.Watcher{Dir: o.Config.SoaDir}
	said := ""
	return w.Run(ctx, func(t *soaconfig.Tree, _ []string) {
		said = ""
		a.Namespaces(t)
	}, func(err error) {
		if err.Error() != said {
			o.Log.Error("read soa-configs failed, the last ones stand", "err", err)
		}
		said = err.Error()
		a.Unread(err)
	})
}

func handler(o Options, a *agent.Agent, routes map[string]http.Handler) http.Handler {
	s := status.Server{
		Agent: a,
		Extra: func() map[string]any {
			extra := map[string]any{"host": o.Config.Hostname, "cluster": o.Config.Cluster}
			if o.Session != nil {
				extra["zookeeper_connected"] = o.Session.Connected()
			}
			return extra
		},
		Routes: routes,
	}
	if o.Session != nil {
		s.Connected = o.Session.Connected
	}
	names := httpserver.HostNames(o.Config.Hostname)
	if u, err := url.Parse(o.Config.Smartstack.Announce); err == nil {
		names = append(names, u.Hostname())
	}
	return httpserver.OwnHostOnly(s.Handler(), names...)
}

// customConfig reads the operator's own sections.
func customConfig(path string) func() (string, error) {
	if path == "" {
		return nil
	}
	return func() (string, error) {
		text, err := os.ReadFile(path)
		return string(text), err
	}
}

func addresses(texts []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("smartstack.bind_addresses: %w", err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}
