// Package agent is the synapse half of paasta smartstack: it keeps HAProxy on
// this host in step with soa-configs and the registry.
//
// One goroutine, Run, owns all state. Everything else (watchers of the registry,
// probes, readers of status) leaves what it learned in the inbox and kicks.
// What to do is decided by pure functions of packages discover and haproxy; the
// agent reads, asks them, and acts.
package agent

import (
	"context"
	"crypto/sha256"
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
	"github.com/gopaasta/paasta/smartstack/internal/names"
	"github.com/gopaasta/paasta/smartstack/internal/probe"
	"github.com/gopaasta/paasta/smartstack/internal/reload"
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
}

// An Agent runs one HAProxy.
type Agent struct {
	o        Options
	log      *slog.Logger
	dir      string
	runtime  *haproxy.Runtime
	watcher  discover.Watcher
	probes   probe.Pool
	names    names.Book
	inbox    inbox
	resolver sync.WaitGroup

	// Owned by Run.
	tree          *soaconfig.Tree // the last good one
	treeErr       error           // why it is not the last one; nil: it is
	registrations map[string]*registration
	// stirred are those that something happened to and that are not done with, and
	// later those that are to be decided again without an event: a pass looks at
	// no others.
	stirred, later map[*registration]bool
	gone           []string         // registrations that others have not seen go
	problems       map[string]error // what is not as soa-configs and the operator have it, and why
	retry          bool             // what was in the way of one of them may be gone without an event
	custom         custom
	hap            hap
	files          files
	callers        callers
	old            map[string]journalLine // of the cache, by registration

	view     view       // what others see
	sweeping sync.Mutex // only one sweep at a time
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
	o.Global.DelayScript = filepath.Join(o.Process.Dir, "delay.lua")
	if o.Settings.CallerMap == "" {
		o.Settings.CallerMap = filepath.Join(o.Process.Dir, "ip_to_service.map")
	}
	a := &Agent{
		o: o, log: o.Log, dir: o.Process.Dir,
		runtime:       o.Process.Runtime(),
		watcher:       discover.Watcher{Registry: o.Registry, Reads: make(chan struct{}, readsAtOnce), Jitter: o.Jitter},
		probes:        probe.Pool{Size: probesAtOnce},
		inbox:         newInbox(),
		registrations: map[string]*registration{},
		stirred:       map[*registration]bool{},
		later:         map[*registration]bool{},
		problems:      map[string]error{},
	}
	a.runtime.Idle = time.Second
	a.names.Resolve, a.names.Every, a.names.Log = o.Resolve, o.ResolveEvery, o.Log
	a.names.Changed = func() { a.inbox.put(func() { a.inbox.names = true }) }
	a.files.cache.path = filepath.Join(a.dir, "cache.json")
	a.files.good.path = filepath.Join(a.dir, "namespaces.json")
	a.files.failed = func() { a.inbox.put(func() {}) } // so that others hear of it
	a.files.synapse = synapse{dir: o.SynapseDir, written: map[string]map[string][sha256.Size]byte{}}
	a.view.init()
	return a
}

// inbox is what others have told and Run has not read yet.
type inbox struct {
	kick chan struct{}

	mu     sync.Mutex
	tree   *soaconfig.Tree
	unread error // why there is no newer one; nil: nothing new
	reads  map[string]read
	probed []probed
	down   map[string]map[string]bool // servers that HAProxy's checks call down, by registration
	caller map[netip.Addr]string      // nil: nothing new
	names  bool                       // a host has another address
	later  bool                       // a kick is due
}

type read struct {
	set   registry.Set
	hosts []string // of it, that are names
	err   error
	at    time.Time
}

type probed struct {
	registration string
	addr         netip.AddrPort
	passed, down bool
	err          error
}

func newInbox() inbox {
	return inbox{kick: make(chan struct{}, 1), reads: map[string]read{}, down: map[string]map[string]bool{}}
}

// put changes the inbox and kicks Run.
func (in *inbox) put(change func()) {
	in.mu.Lock()
	change()
	in.mu.Unlock()
	select {
	case in.kick <- struct{}{}:
	default:
	}
}

// putLater changes the inbox and kicks Run before long.
func (in *inbox) putLater(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	change()
	if in.later {
		return
	}
	in.later = true
	time.AfterFunc(laterKick, func() { in.put(func() { in.later = false }) })
}

// laterKick is how long what nobody waits for is collected. A thousand services
// that start are decided again a few times then, and not for each server.
const laterKick = 250 * time.Millisecond

// Namespaces tells the agent what soa-configs say now.
func (a *Agent) Namespaces(t *soaconfig.Tree) {
	a.inbox.put(func() { a.inbox.tree, a.inbox.unread = t, nil })
}

// Unread tells the agent that soa-configs cannot be read.
func (a *Agent) Unread(err error) { a.inbox.put(func() { a.inbox.unread = err }) }

// settle is how long a start waits for the registry and the first probes before
// HAProxy gets its first config of this agent, so that it gets one and not
// several.
const settle = 2 * time.Second

// burst is the shortest pause between two passes.
const burst = 2 * time.Millisecond

// Run keeps HAProxy in step until ctx ends. It leaves HAProxy running.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.identify(ctx); err != nil {
		return err
	}
	a.prepare()
	a.loadCache()
	a.loadCustom()
	a.adopt(ctx)
	a.hap.settleBy, a.hap.settleEnd = time.Now().Add(settle), time.Now().Add(5*settle)
	check := time.NewTicker(checkEvery / checkParts)
	defer check.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		a.watcher.Stop()
		a.resolver.Wait()
		a.probes.Wait()
		a.runtime.CloseIdle()
		a.o.Process.Kept.Drop()
	}()
	a.resolver.Go(func() { _ = a.names.Run(ctx) }) // nil, once ctx ends
	a.restore(ctx)
	var last time.Time
	for {
		// What can happen: somebody put something into the inbox; it is time for
		// what was put off; HAProxy has died; it is time to look whether HAProxy
		// still has what we think.
		select {
		case <-ctx.Done():
			a.flush()
			return nil
		case <-a.inbox.kick:
		case <-timer.C:
		case <-a.hap.gone:
			if ctx.Err() != nil {
				continue // gone is closed by that as well
			}
			a.died(ctx)
		case <-check.C:
			again := a.check() && a.retry
			if a.tree != nil && (again || a.customMoved()) {
				a.follow(ctx)
			}
		}
		// In a storm, what comes within a moment is one pass.
		if time.Since(last) < burst {
			time.Sleep(burst)
		}
		now := time.Now()
		last = now
		a.read(ctx, now)
		a.decide(now)
		a.act(ctx)
		a.publish()
		timer.Reset(max(time.Until(a.next()), time.Millisecond))
	}
}

// next is when something that was put off is due.
func (a *Agent) next() time.Time {
	due := time.Now().Add(time.Minute)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(due) {
			due = t
		}
	}
	for r := range a.later {
		earlier(r.again)
	}
	earlier(a.hap.due())
	earlier(a.files.due())
	if a.callers.known {
		earlier(a.callers.again)
	}
	return due
}

// read takes what is in the inbox.
func (a *Agent) read(ctx context.Context, now time.Time) {
	in := &a.inbox
	in.mu.Lock()
	tree, unread, reads, results, down, callers, moved := in.tree, in.unread, in.reads, in.probed, in.down, in.caller, in.names
	in.tree, in.unread, in.probed, in.caller, in.names = nil, nil, nil, nil, false
	in.reads, in.down = map[string]read{}, map[string]map[string]bool{}
	in.mu.Unlock()
	if callers != nil {
		a.callers.read(callers)
	}

	if tree != nil {
		a.namespaces(ctx, tree)
	}
	if unread != nil {
		a.unread(unread)
	}
	for name, rd := range reads {
		if r := a.registrations[name]; r != nil {
			r.read(rd)
			a.stir(r)
		}
	}
	for _, p := range results {
		if r := a.registrations[p.registration]; r != nil {
			r.probed(p, now)
			a.stir(r)
		}
	}
	for name, servers := range down {
		if r := a.registrations[name]; r != nil {
			r.down(servers)
			a.stir(r)
		}
	}
	if moved {
		for _, r := range a.registrations {
			if len(r.hosts) > 0 {
				r.dirty = true
				a.stir(r)
			}
		}
	}
	for r := range a.later {
		if !now.Before(r.again) {
			r.dirty = true
			a.stir(r)
		}
	}
}

// stir says that something happened to a registration.
func (a *Agent) stir(r *registration) { a.stirred[r] = true }

// decide brings every registration that something happened to up to date.
func (a *Agent) decide(now time.Time) {
	for r := range a.stirred {
		if r.dirty {
			r.dirty = false
			a.decideOne(r, now)
		}
	}
}

var errNotStarted = errors.New("HAProxy does not run")
