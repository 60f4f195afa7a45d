// Package deployd is the daemon that brings what runs in a cluster to what tags
// and soa-configs ask for: it reads both, forms apps, bounces instances through
// Marathon, and registers healthy tasks for discovery. Any number may run; one
// leads and acts. All state is in Marathon and ZooKeeper, so each can be killed
// at any moment.
package deployd

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/deployd/internal/agents"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/process"
	"github.com/gopaasta/paasta/paasta/rungroup"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
)

// Options is what a deployd is made of. What has no default is required.
type Options struct {
	Config   sysconfig.Config
	ZK       *zk.Conn
	Marathon *marathon.Client
	// Tags lists the paasta tags of a repository.
	Tags     func(ctx context.Context, url string) ([]paasta.Tag, error)
	Listener net.Listener // status, /healthz, /metrics
	Log      *slog.Logger

	// AtStep is called after each named step (Steps); nil for nothing.
	AtStep func(step string)
	// Metrics is where deployd registers what it measures; default: its own.
	Metrics *prometheus.Registry

	HoldEntries   time.Duration // how long too many unplanned removals wait; default 30s
	HoldInstances time.Duration // how long too many vanished instances wait; default 3m
	Settle        time.Duration // how long no agents are no proof of none; default 10s
}

func (o *Options) fill() {
	d := &o.Config.Deployd
	fill := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	fill(&d.Resync, time.Minute)
	fill(&d.GitPoll, time.Minute)
	fill(&d.GitPollHooked, 10*time.Minute)
	fill(&d.DrainTimeout, time.Minute)
	fill(&o.HoldEntries, 30*time.Second)
	fill(&o.HoldInstances, 3*time.Minute)
	fill(&o.Settle, 10*time.Second)
	if d.Workers <= 0 {
		d.Workers = 4
	}
	if d.BigBounceRate <= 0 {
		d.BigBounceRate = 6
	}
	if o.AtStep == nil {
		o.AtStep = func(string) {}
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
}

// A daemon is a running deployd: what outlives its terms of leadership.
type daemon struct {
	Options
	m *metrics

	// Soa-configs are read whether it leads or not, so that a new leader starts
	// with them.
	tree    atomic.Pointer[soaconfig.Tree]
	valid   lastValid
	soaErr  atomic.Pointer[error]
	changed atomic.Pointer[func(names []string)] // of the term

	// Agents are watched all the time as well: whoever comes to lead must know
	// which of them went lately, perhaps in the outage that made it the leader.
	agents *agents.View
	term   atomic.Pointer[term] // nil while another leads
}

// Run runs deployd until ctx ends, and then returns nil once every part has
// stopped. Losing leadership, ZooKeeper, Marathon or git ends nothing.
func Run(ctx context.Context, o Options) error {
	if o.Config.Cluster == "" {
		return errors.New("deployd: the system config names no cluster")
	}
	o.fill()
	d := &daemon{Options: o, m: newMetrics(o.Metrics)}
	d.agents = agents.New(agents.Options{
		Conn: o.ZK, Linger: o.Config.Deployd.DrainTimeout, Settle: o.Settle, Log: o.Log,
		Changed: func() {
			if t := d.term.Load(); t != nil {
				t.agentsChanged()
			}
		},
	})
	g, _ := rungroup.WithContext(ctx)
	g.Go("http server", httpserver.Serve(o.Listener, &http.Server{Handler: d.handler()}, time.Second))
	g.Go("soa-configs", d.watchSoa)
	g.Go("agents", d.agents.Run)
	g.Go("leadership", d.lead)
	o.Log.Info("deployd started", "addr", o.Listener.Addr().String(), "cluster", o.Config.Cluster)
	err := g.Wait()
	o.Log.Info("deployd stopped")
	return err
}

func (d *daemon) watchSoa(ctx context.Context) error {
	w := soaconfig.Watcher{Dir: d.Config.SoaDir, Options: soaconfig.Options{Clusters: d.Config.Clusters}, Resync: d.Config.Deployd.Resync}
	return w.Run(ctx, func(t *soaconfig.Tree, names []string) {
		d.valid.read(t)
		first := d.tree.Swap(t) == nil
		d.soaErr.Store(nil)
		d.m.soaProblems.Set(float64(len(t.Problems)))
		d.Log.Info("soa-configs read", "path", d.Config.SoaDir, "services", len(t.Services), "changed", len(names), "problems", len(t.Problems), "first", first)
		if changed := d.changed.Load(); changed != nil {
			(*changed)(names)
		}
	}, func(err error) {
		d.soaErr.Store(&err)
		d.m.soaFailed.Inc()
		d.Log.Error("read soa-configs failed, the last ones stand", "path", d.Config.SoaDir, "err", err)
	})
}

func (d *daemon) lead(ctx context.Context) error {
	data, err := json.Marshal(paasta.LeaderNode{Host: d.Config.Hostname, Status: httpserver.URL(d.Listener.Addr(), d.Config.Hostname), Process: process.Self()})
	if err != nil {
		return err
	}
	leader := zk.Leader{Conn: d.ZK, Dir: paasta.LeaderPath(d.Config.Cluster), Data: data, Log: d.Log, Gone: gone}
	return leader.Lead(ctx, func(ctx context.Context, fence zk.Fence) error {
		d.m.elections.Inc()
		d.m.leading.Set(1)
		defer d.m.leading.Set(0)
		return newTerm(d, fence).run(ctx)
	})
}

// gone tells that the process of a candidate is.
func gone(data []byte) bool {
	var n paasta.LeaderNode
	return json.Unmarshal(data, &n) == nil && process.StateOf(n.Process) == process.Gone
}
