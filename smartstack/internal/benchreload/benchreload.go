//go:build linux

// Package benchreload measures what reloading HAProxy does to its clients, one
// strategy after the other: a real backend, HAProxy in front of it, many new
// connections, a reload every tenth of a second. It is the experiment behind
// docs/operations/reloads.md, and "paasta smartstack bench-reload" runs it on
// the reader's own kernel.
//
// Run wants a network namespace of its own, because it counts the kernel's
// retransmissions, which are a namespace's.
package benchreload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/smartstack/internal/address"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// A Strategy is one way to get a change into HAProxy.
type Strategy string

// The strategies, in the order in which they are run and drawn.
const (
	NoReload Strategy = "no-reload"
	Plain    Strategy = "plain"
	Drop     Strategy = "drop"
	Sockets  Strategy = "sockets"
	NFQueue  Strategy = "nfqueue"
	Qdisc    Strategy = "qdisc"
	Runtime  Strategy = "runtime"
)

// Strategies are all of them.
var Strategies = []Strategy{NoReload, Plain, Drop, Sockets, NFQueue, Qdisc, Runtime}

var descriptions = map[Strategy]string{
	NoReload: "no reload",
	Plain:    "reload with -sf alone",
	Drop:     "SYNs dropped by a firewall rule, -sf (a reload every 1.25 s)",
	Sockets:  "listening sockets passed on (-sf, -x)",
	NFQueue:  "SYNs wait in a netfilter queue, sockets passed on",
	Qdisc:    "SYNs wait in a plug qdisc, sockets passed on",
	Runtime:  "no reload: a server added or removed by the runtime API",
}

// losesNoSYN says whether a strategy promises that no SYN is lost.
func (s Strategy) losesNoSYN() bool { return s == NFQueue || s == Qdisc }

// Options say how large the experiment is. Every field is required.
type Options struct {
	Strategies  []Strategy
	Requests    int           // at least as many, for each strategy that holds
	Reloads     int           // at least as many, for each strategy that holds
	Other       int           // the others get this part: 1/Other of both
	Concurrency int           // connections at once
	Every       time.Duration // pause between the starts of two reloads
	Dir         string        // for HAProxy's files
	// GuardCommand is the plug's.
	GuardCommand []string
	Progress     func(string) // a line about what is going on
}

// A Report is the outcome. Its JSON is part of our interface.
type Report struct {
	Kernel      string   `json:"kernel"`
	HAProxy     string   `json:"haproxy"`
	Concurrency int      `json:"concurrency"`
	EveryMS     float64  `json:"reload_every_ms"`
	Results     []Result `json:"results"`
}

// A Result is what became of one strategy's requests. Times are milliseconds.
type Result struct {
	Strategy Strategy `json:"strategy"`
	What     string   `json:"what"`
	// Missing says why the strategy was not run; all else is then zero.
	Missing       string         `json:"missing,omitempty"`
	Requests      int            `json:"requests"`
	Failed        int            `json:"failed"`
	Errors        map[string]int `json:"errors,omitempty"` // of Failed, by kind
	Retransmitted int            `json:"retransmitted"`    // SYNs that the kernel sent again
	Slow          int            `json:"slow"`             // connects whose SYN was sent again
	Reloads       int            `json:"reloads"`          // reloads, or changes by the runtime API
	ReloadsFailed int            `json:"reloads_failed"`   // the new process did not start, and the old one went on
	ReloadMean    float64        `json:"reload_mean_ms"`   // duration of one
	HeldMean      float64        `json:"held_mean_ms"`     // for how long connections were held
	HeldMax       float64        `json:"held_max_ms"`      // from a second on, clients' kernels send SYNs again
	Seconds       float64        `json:"seconds"`
	P50           float64        `json:"p50_ms"`
	P99           float64        `json:"p99_ms"`
	P999          float64        `json:"p999_ms"`
	Max           float64        `json:"max_ms"`

	points []point
}

// Run runs the experiment. When ctx ends it returns what there is, with the
// strategy that was running, and the context's error.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Concurrency: o.Concurrency, EveryMS: ms(o.Every)}
	var err error
	if r.Kernel, err = kernelRelease(); err != nil {
		return r, err
	}
	if _, r.HAProxy, err = (haproxy.Process{Binary: "haproxy"}).Version(ctx); err != nil {
		return r, err
	}
	if err := errors.Join(plug.LoopbackUp(), address.Setup([]netip.Addr{plug.DefaultAddress}), manyPorts()); err != nil {
		return r, fmt.Errorf("prepare the network namespace: %w", err)
	}
	var ports [2]int
	for i := range ports {
		backend, port, err := startBackend()
		if err != nil {
			return r, err
		}
		defer backend.Close()
		ports[i] = port
	}
	for _, s := range Strategies {
		if !slices.Contains(o.Strategies, s) {
			continue
		}
		res, err := runOne(ctx, o, s, ports)
		if err != nil {
			return r, fmt.Errorf("strategy %s: %w", s, err)
		}
		res.Strategy, res.What = s, descriptions[s]
		o.Progress(fmt.Sprintf("%s: done, %d requests, %d failed, %d reloads", s, res.Requests, res.Failed, res.Reloads))
		r.Results = append(r.Results, res)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
	}
	return r, nil
}

// runOne runs one strategy with a HAProxy of its own.
func runOne(ctx context.Context, o Options, s Strategy, ports [2]int) (Result, error) {
	hold, missing, err := newHolder(ctx, o, s)
	if err != nil || missing != "" {
		return Result{Missing: missing}, err
	}
	defer func() {
		if err := hold.Close(); err != nil {
			o.Progress(err.Error())
		}
	}()
	requests, reloads := o.Requests, o.Reloads
	if !s.losesNoSYN() && o.Other > 1 {
		requests, reloads = requests/o.Other, reloads/o.Other
	}
	every := o.Every
	switch s {
	case NoReload:
		reloads = 0
	case Drop:
		// A dropped SYN costs its client a second, and no multiple of it may meet
		// the next reload: nothing would come through.
		every = max(every, 1250*time.Millisecond)
		requests, reloads = 0, max(reloads/10, 5)
	}
	h, err := startHAProxy(ctx, o.Dir, ports[0])
	if err != nil {
		return Result{}, err
	}
	defer h.close()

	before, err := synRetransmissions()
	if err != nil {
		return Result{}, err
	}
	l, res := startLoad(ctx, o.Concurrency)
	defer l.Stop()
	start := time.Now()
	c := &changer{proxy: h, hold: hold, port: ports[1], strategy: s}
	next, progress := start, start
	for sent := 0; ctx.Err() == nil && (sent < requests || c.done < reloads); sent, _ = l.Snapshot() {
		if reloads > 0 {
			if err := c.change(ctx); err != nil {
				return Result{}, err
			}
		}
		if time.Since(progress) > 10*time.Second {
			progress = time.Now()
			o.Progress(fmt.Sprintf("%s: %d of %d requests, %d of %d reloads", s, sent, requests, c.done, reloads))
		}
		next = next.Add(every)
		if late := time.Since(next); late > 0 {
			next = next.Add(late)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
	}
	sum := l.Stop()
	res.Requests = sum.Sent
	res.P50, res.P99, res.P999, res.Max = ms(sum.Quantile(0.5)), ms(sum.Quantile(0.99)), ms(sum.Quantile(0.999)), ms(sum.Quantile(1))
	res.Seconds = time.Since(start).Seconds()
	after, err := synRetransmissions()
	if err != nil {
		return Result{}, err
	}
	res.Retransmitted = after - before
	if s.losesNoSYN() {
		// A SYN that was sent again shows as a slow connect, so only those that
		// do not are added.
		if n := max(res.Slow, res.Retransmitted); n > 0 {
			res.Failed += n
			res.Errors["SYN sent again"] += n
		}
	}
	res.Reloads, res.ReloadsFailed = c.done, c.failed
	if c.done > 0 {
		res.ReloadMean, res.HeldMean = ms(c.took)/float64(c.done), ms(c.held)/float64(c.done)
		res.HeldMax = ms(c.longest)
	}
	return *res, nil
}

// A connectionHolder holds new connections during a reload.
type connectionHolder interface {
	Hold(context.Context) error
	Release(context.Context) error
	Close() error
}

// newHolder makes what a strategy holds with, or says what is missing for it.
func newHolder(ctx context.Context, o Options, s Strategy) (h connectionHolder, missing string, err error) {
	if s == Drop {
		h, err = plug.NewDropper(plug.Options{})
		return h, "", err
	}
	protect := plug.None
	if s.losesNoSYN() {
		protect = plug.Method(s)
	}
	p, err := plug.New(plug.Options{Protect: protect, GuardCommand: o.GuardCommand})
	if err != nil {
		return nil, "", err
	}
	err = p.Setup(ctx)
	if unsupported, ok := errors.AsType[*plug.UnsupportedError](err); ok {
		return nil, "not on this kernel: " + unsupported.Missing, p.Close()
	}
	return clearing{p}, "", err
}

// clearing is a plug that is removed when it is closed.
type clearing struct{ *plug.Plug }

func (c clearing) Close() error {
	return errors.Join(c.Clear(context.Background()), c.Plug.Close())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask for the kernel's version: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// manyPorts lets the clients have most ports: each connection uses up one for a
// minute.
func manyPorts() error {
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("2048 65000"), 0),
		os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0),
	)
}
