// Package agent is the synapse half of paasta smartstack: it keeps HAProxy on
// this host in step with soa-configs and the registry.
//
// One goroutine, Run, owns all state. Everything else (watchers of the registry,
// probes, readers of status) puts events into its mailbox. An event changes what is
// known of a registration, and marks it dirty if that matters; build, which is pure,
// decides how a dirty one should be; haproxy.Diff, which is pure, says how HAProxy
// gets there; and apply does it.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/probe"
	"github.com/gopaasta/paasta/smartstack/internal/reload"
	"github.com/gopaasta/paasta/smartstack/internal/resolver"
)

// Options is what an agent is made of. Fields without a default are required.
type Options struct {
	Process  haproxy.Process
	Global   haproxy.Global // without what Process knows: Socket, StateFile, Version
	Settings discover.Settings
	Registry registry.Registry
	Plug     reload.Plug
	Hold     time.Duration // longest time that a reload holds connections
	Log      *slog.Logger
	Metrics  *Metrics

	Connected   func() bool            // whether the registry can answer now; nil for unknown
	Custom      func() (string, error) // reads the operator's own sections; nil for none
	SynapseDir  string                 // where files for other tools go; "" for none
	MinInterval time.Duration          // between two reloads
	Floor       discover.Floor
	// Applied hears, not more often than every few milliseconds, of registrations
	// that are in HAProxy up to another version, and of those that are gone.
	Applied func(versions map[string]int64, gone []string)
	// Jitter is the longest time by which a read of the registry is put off at
	// random; nil for none.
	Jitter func() time.Duration
	// Resolve looks up hosts that entries give by name; nil for this host's
	// resolver.
	Resolve      func(ctx context.Context, host string) ([]netip.Addr, error)
	ResolveEvery time.Duration // how often; default 30s
	// Deaths is how many deaths of HAProxy in a row are followed by a start at once;
	// default 5.
	Deaths int
}

// An Agent runs one HAProxy.
type Agent struct {
	*view // what others see

	o        Options
	log      *slog.Logger
	events   *mailbox
	watcher  discover.Watcher
	probes   probe.Pool
	resolver resolver.Cache

	// Owned by Run.
	tree     *soaconfig.Tree  // the last good one
	treeErr  error            // why it is not the last one; nil: it is
	problems map[string]error // why something is not served as it is configured, by name
	cache
	proxy   *proxy
	pending pendingReload
	gate    startGate
	custom  custom
	callers callers
	files   *files
}

// probesAtOnce bounds the probes that run at a time.
const probesAtOnce = 64

// readsAtOnce bounds the reads of the registry that run at a time.
const readsAtOnce = 64

// New returns an agent that has not started.
func New(o Options) *Agent {
	if o.Process.Kept == nil {
		o.Process.Kept = &haproxy.Listeners{}
	}
	o.Global.Socket = o.Process.Socket()
	o.Global.StateFile = o.Process.StateFile()
	o.Global.Root = os.Geteuid() == 0
	if o.Global.Files == 0 {
		o.Global.Files = haproxy.FileLimit()
	}
	dir := o.Process.Dir
	o.Global.DelayScript = filepath.Join(dir, "delay.lua")
	if o.Settings.CallerMap == "" {
		o.Settings.CallerMap = filepath.Join(dir, "ip_to_service.map")
	}
	if o.Deaths == 0 {
		o.Deaths = 5
	}
	a := &Agent{
		o: o, log: o.Log, events: newMailbox(),
		watcher:  discover.Watcher{Registry: o.Registry, Reads: make(chan struct{}, readsAtOnce), Jitter: o.Jitter},
		probes:   probe.Pool{Size: probesAtOnce},
		problems: map[string]error{},
		cache:    cache{map[string]*registration{}, set{}, set{}, set{}, set{}, nil},
		callers:  callers{path: o.Settings.CallerMap},
		custom:   custom{source: o.Custom, path: filepath.Join(dir, "custom_config.good"), log: o.Log},
	}
	a.resolver.Resolve, a.resolver.Every, a.resolver.Log = o.Resolve, o.ResolveEvery, o.Log
	a.resolver.Changed = func() { a.events.put(hostsMoved{}) }
	a.proxy = &proxy{
		process: o.Process, global: o.Global, runtime: o.Process.Runtime(), reloader: reload.Reloader{Plug: o.Plug, Longest: o.Hold, Log: o.Log},
		log: o.Log, metrics: o.Metrics, deaths: deaths{atOnce: o.Deaths},
	}
	a.proxy.runtime.Idle = time.Second
	a.files = newFiles(dir, o.SynapseDir, o.Log, func() { a.events.put(fileWritten{}) })
	a.view = newView(o, &a.resolver, a.events)
	return a
}

// Namespaces tells the agent what soa-configs say now.
func (a *Agent) Namespaces(t *soaconfig.Tree) { a.events.put(treeRead{t}) }

// Unread tells the agent that soa-configs cannot be read.
func (a *Agent) Unread(err error) { a.events.put(treeUnreadable{err}) }

// Callers tells the agent which service has which address, so that requests
// from there carry its name. Names that HAProxy could not read are left out.
func (a *Agent) Callers(names map[netip.Addr]string) { a.events.put(callersListed{valid(names)}) }

// burst is the shortest pause between two passes.
const burst = 2 * time.Millisecond

// Run keeps HAProxy in step until ctx ends. It leaves HAProxy running.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.proxy.identify(ctx); err != nil {
		return err
	}
	a.files.prepare(a.o)
	a.files.journal.load(a.log)
	a.custom.load()
	a.proxy.adopt(ctx)
	a.gate = newStartGate(time.Now())
	verify := time.NewTicker(verifyEvery / verifyParts)
	defer verify.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	ctx, cancel := context.WithCancel(ctx)
	var resolving sync.WaitGroup
	defer func() {
		cancel()
		a.watcher.Wait()
		resolving.Wait()
		a.probes.Wait()
		a.proxy.runtime.CloseIdle()
		a.o.Process.Kept.Drop()
	}()
	resolving.Go(func() { _ = a.resolver.Run(ctx) }) // nil, once ctx ends
	a.restore(ctx)
	var last time.Time
	for {
		// What can happen: there are events; it is time for what was put off; HAProxy
		// has died; it is time to look whether HAProxy still has what we think.
		select {
		case <-ctx.Done():
			a.files.flush(a)
			return nil
		case <-a.events.kick:
		case <-timer.C:
		case <-a.proxy.gone:
			if ctx.Err() != nil {
				continue // gone is closed by that as well
			}
			a.died(ctx)
		case <-verify.C:
			a.verify(ctx)
		}
		// In a storm, what comes within a moment is one pass.
		if time.Since(last) < burst {
			time.Sleep(burst)
		}
		now := time.Now()
		last = now
		for _, e := range a.events.take() {
			a.handle(ctx, e, now)
		}
		a.buildDirty(now)
		a.apply(ctx)
		a.publish()
		timer.Reset(max(time.Until(a.next()), time.Millisecond))
	}
}

// next is when something that was put off is due.
func (a *Agent) next() time.Time {
	if len(a.dirty) > 0 || len(a.unapplied) > 0 && a.proxy.pid != 0 && a.proxy.retryAt.IsZero() {
		return time.Time{}
	}
	due := earliest(time.Now().Add(time.Minute), a.proxy.due())
	due = earliest(due, a.nextBuild())
	if at := a.pending.due(); !at.IsZero() {
		if time.Now().After(at) && !a.gate.until.IsZero() {
			at = a.gate.until // until then whatever is awaited wakes us
		}
		due = earliest(due, at)
	}
	due = earliest(due, a.files.due())
	return earliest(due, a.callers.again)
}

// handle takes an event.
func (a *Agent) handle(ctx context.Context, e event, now time.Time) {
	switch e := e.(type) {
	case treeRead:
		a.treeErr = nil
		if len(e.tree.Services) == 0 && (len(a.registrations) > 0 || a.proxy.adopted != nil && len(a.proxy.adopted.proxies) > 0) {
			// A directory that is not mounted looks like this. Nobody removes all of
			// their services at once.
			a.treeErr = errors.New("there are no services any more; what was there stays")
			a.log.Error("soa-configs are empty", "err", a.treeErr)
			return
		}
		a.tree = e.tree
		a.follow(ctx)
	case treeUnreadable:
		a.treeErr = e.err
	case registryRead:
		a.update(e.registration, func(r *registration) bool { return r.read(e) })
	case probeResult:
		a.update(e.registration, func(r *registration) bool { return r.probed(e, now) })
	case serversDown:
		a.update(e.registration, func(r *registration) bool { return r.serversDown(e.servers) })
	case callersListed:
		a.callers.set(e.names)
	case hostsMoved:
		a.hostsMoved()
	case fileWritten:
	}
}

// buildDirty builds every registration that is dirty, or whose time has come.
func (a *Agent) buildDirty(now time.Time) {
	a.due(now)
	for r := range a.dirty {
		a.build(r, now)
	}
	clear(a.dirty)
}

// build builds one registration from a snapshot.
func (a *Agent) build(r *registration, now time.Time) {
	s := snapshot{
		namespace: r.namespace, members: r.members, running: a.proxy.running[r.name], section: r.desired.section, cold: a.proxy.cold,
		floor: a.o.Floor, lookup: a.resolver.Lookup, now: now,
	}
	if r.answer.known() {
		s.set = &r.answer.set
	}
	before := r.desired.why
	r.members, r.desired = build(s)
	if why := r.desired.why; why != "" && why != before {
		a.log.Warn("servers stay that the registry does not name", "registration", r.name, "why", why)
	}
	a.built(r)
	r.probe(&a.probes, a.events)
	a.files.membersChanged(now, r.name)
}

// publish lets others see what Run has done.
func (a *Agent) publish() {
	versions := a.view.publish(a)
	gone := a.dropped
	a.dropped = nil
	clear(a.touched)
	if len(versions)+len(gone) > 0 && a.o.Applied != nil {
		a.o.Applied(versions, gone)
	}
}
