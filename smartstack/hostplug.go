package smartstack

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// hostPlug is the plug of this host as the agent uses it: set up at the start,
// and put right before a hold when somebody has cleared it, or when a bridge
// has come or gone. It counts itself.
type hostPlug struct {
	o    plug.Options
	want []string // interfaces, there or not
	log  *slog.Logger

	mu   sync.Mutex
	p    *plug.Plug // nil before the first use, and when nothing is to be held
	done plug.Holds // of the plugs before p
}

// newHostPlug makes the plug that the config asks for, for the link-local one
// among the addresses that frontends bind. What fails is logged: an agent that
// cannot hold still reloads, with its listening sockets passed on.
func newHostPlug(ctx context.Context, c sysconfig.Reload, guard []string, bind []netip.Addr, log *slog.Logger) *hostPlug {
	h := &hostPlug{
		o:    plug.Options{Protect: plug.Method(c.Protect), Hold: c.Hold, GuardCommand: guard, Log: log},
		want: append([]string{"lo"}, c.Interfaces...),
		log:  log,
	}
	if i := slices.IndexFunc(bind, netip.Addr.IsLinkLocalUnicast); i >= 0 {
		h.o.Address = bind[i]
	} else {
		h.o.Protect = plug.None
	}
	if h.o.Protect == "" {
		h.o.Protect = plug.None
	}
	if err := h.ensure(ctx); err != nil {
		log.Error("set up the plug failed: new connections are not held during reloads", "err", err, "protect", c.Protect)
	}
	return h
}

// ensure makes sure that a hold can begin. The caller does not hold mu.
func (h *hostPlug) ensure(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	have := slices.DeleteFunc(slices.Clone(h.want), func(name string) bool {
		_, err := net.InterfaceByName(name)
		return err != nil
	})
	fresh := false
	if h.p == nil || !slices.Equal(have, h.o.Interfaces) {
		if h.p != nil {
			if err := h.p.Close(); err != nil {
				return err
			}
			h.done = h.done.Plus(h.p.Holds())
		}
		h.o.Interfaces = have
		p, err := plug.New(h.o)
		h.p, fresh = p, true
		if err != nil {
			return err
		}
	}
	// At the start set-up also lets go of what a dead agent has left.
	if !fresh && h.p.Check(ctx) == nil {
		return nil
	}
	if err := h.p.Setup(ctx); err != nil {
		return err
	}
	h.log.Info("plug set up", "protect", string(h.p.Name()), "interfaces", have)
	return nil
}

// Hold holds new connections.
func (h *hostPlug) Hold(ctx context.Context) error {
	if err := h.ensure(ctx); err != nil {
		return err
	}
	return h.p.Hold(ctx)
}

// Release lets them go.
func (h *hostPlug) Release(ctx context.Context) error {
	h.mu.Lock()
	p := h.p
	h.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Release(ctx)
}

// Close lets go and ends the guard.
func (h *hostPlug) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.p == nil {
		return nil
	}
	return h.p.Close()
}

var (
	plugHolds  = prometheus.NewDesc("smartstack_plug_holds_total", "Reloads during which new connections were held.", []string{"protect"}, nil)
	plugLapsed = prometheus.NewDesc("smartstack_plug_holds_lapsed_total", "Holds that ended before the reload did.", []string{"protect"}, nil)
	plugWaited = prometheus.NewDesc("smartstack_plug_connections_total", "Connections that waited in a hold.", []string{"protect"}, nil)
	plugTotal  = prometheus.NewDesc("smartstack_plug_held_seconds_total", "For how long new connections were held, together.", []string{"protect"}, nil)
	plugMax    = prometheus.NewDesc("smartstack_plug_held_longest_seconds", "The longest hold since the agent started.", []string{"protect"}, nil)
)

// Describe and Collect make it a collector of its own counts.
func (h *hostPlug) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(h, ch) }

// Collect sends the counts.
func (h *hostPlug) Collect(ch chan<- prometheus.Metric) {
	h.mu.Lock()
	n, way := h.done, string(plug.None)
	if h.p != nil {
		n, way = n.Plus(h.p.Holds()), string(h.p.Name())
	}
	h.mu.Unlock()
	for _, m := range []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		value float64
	}{
		{plugHolds, prometheus.CounterValue, float64(n.Done)},
		{plugLapsed, prometheus.CounterValue, float64(n.Lapsed)},
		{plugWaited, prometheus.CounterValue, float64(n.Waited)},
		{plugTotal, prometheus.CounterValue, n.Total.Seconds()},
		{plugMax, prometheus.GaugeValue, n.Max.Seconds()},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value, way)
	}
}
