package nerve

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/lastgood"
)

// Options is what the nerve half is made of. All but Locations are required.
type Options struct {
	Dir       string            // *.yaml and *.json, one service each; need not exist yet
	DrainDir  string            // drain files by service name
	Hostname  string            // nerve's instance_id: "name" of the entries
	Address   string            // published for services whose file names no host
	Here      map[string]string // location type → value
	Locations paasta.Locations
	Resync    time.Duration // re-read of Dir without an event; default 10s
	LastGood  string        // file that keeps what files of Dir said last while they were valid; "" for none
	Keeper    Keeper
	Log       *slog.Logger
}

// A Nerve checks and registers the services of this host.
type Nerve struct {
	o         Options
	now       func() time.Time
	publisher *publisher

	files      files                                            // owned by Run
	unreadable string                                           // what was said of Dir; of Run alone
	good       lastgood.File[map[string]soaconfig.LocalService] // by the file that describes them
	before     map[string]soaconfig.LocalService                // of the agent before this one, by file; nil after the first reading
	unwritten  string                                           // what was said of good

	mu       sync.Mutex
	running  map[string]*running
	problems map[string]soaconfig.Problems // by file
}

type running struct {
	runner *runner
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// New returns a Nerve that has not started.
func New(o Options) *Nerve {
	if o.Resync == 0 {
		o.Resync = 10 * time.Second
	}
	return &Nerve{o: o, now: time.Now, files: files{dir: o.Dir}, good: lastgood.File[map[string]soaconfig.LocalService]{Path: o.LastGood}, publisher: newPublisher(o.Keeper, o.Log), running: map[string]*running{}, problems: map[string]soaconfig.Problems{}}
}

// Status returns the services of this host, by name, and what is wrong with
// files, by path.
func (n *Nerve) Status() ([]Status, map[string]soaconfig.Problems) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Status
	for _, name := range slices.Sorted(maps.Keys(n.running)) {
		s := n.running[name].runner.Status()
		s.Pending = n.publisher.pending(name)
		all = append(all, s)
	}
	return all, maps.Clone(n.problems)
}

// Run checks and registers until ctx ends. Then it takes every entry of this
// host out of the registry, waits at most five seconds for that, and returns
// nil.
func (n *Nerve) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		n.o.Log.Warn("no file events, reading again every now and then", "err", err, "every", n.o.Resync)
		n.follow(ctx, nil, nil, func() {})
	} else {
		defer watcher.Close()
		n.follow(ctx, watcher.Events, watcher.Errors, func() { addDirs(watcher, n.o.Dir, n.o.DrainDir) })
	}
	n.stop(context.WithoutCancel(ctx))
	return nil
}

// follow reads again whenever files changed, or may have, until ctx ends. watch
// watches the directories that are there.
func (n *Nerve) follow(ctx context.Context, events <-chan fsnotify.Event, errs <-chan error, watch func()) {
	var err error
	if n.before, err = n.good.Read(); err != nil {
		n.o.Log.Error("read the last good local services failed: only files that are valid now count", "err", err)
	}
	watch()
	resync := time.NewTicker(n.o.Resync)
	defer resync.Stop()
	n.read(ctx)
	for {
		// A file changed, in one of the two directories; events were lost; some time
		// has passed; or the agent stops.
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if filepath.Dir(event.Name) == filepath.Clean(n.o.DrainDir) {
				n.wake(filepath.Base(event.Name))
				continue
			}
			debounce(ctx, events, errs)
			n.files.forget()
			n.read(ctx)
			n.wakeAll()
		case err := <-errs: // nothing else is told before somebody has heard this
			n.o.Log.Warn("file events were lost, reading everything", "err", err)
			n.files.forget()
			n.read(ctx)
			n.wakeAll()
		case <-resync.C:
			watch()
			n.read(ctx)
		}
	}
}

// read makes the runners those of the files. A broken file leaves its service
// as it was; only a file that is gone takes it out.
func (n *Nerve) read(ctx context.Context) {
	services, problems, err := n.files.read()
	if err != nil {
		if text := err.Error(); text != n.unreadable {
			n.o.Log.Warn("services directory not readable, going on with what is known", "path", n.o.Dir, "err", err)
			n.unreadable = text
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, s := range n.before {
			n.start(ctx, s.Name, s)
		}
		return
	}
	n.unreadable = ""
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.problems
	n.problems = problems
	for name, s := range services {
		n.start(ctx, name, s)
	}
	for file, found := range problems {
		if s, ok := n.before[file]; ok && broken(found) && n.running[s.Name] == nil {
			n.start(ctx, s.Name, s)
		}
	}
	n.before = nil
	for file, found := range problems {
		switch {
		case reflect.DeepEqual(before[file], found):
		case broken(found):
			n.o.Log.Error("local service file is broken, going on with what it said before", "path", file, "err", found)
		default:
			n.o.Log.Warn("local service file has mistakes, the rest of it counts", "path", file, "err", found)
		}
	}
	for name, r := range n.running {
		if _, valid := services[name]; !valid && !broken(problems[r.runner.service.File]) {
			n.o.Log.Info("local service is no longer configured", "service", name)
			n.end(name)
			n.publisher.publish(ctx, name, nil)
		}
	}
	n.keepGood()
}

// keepGood writes what runs, for the next agent. n.mu is held.
func (n *Nerve) keepGood() {
	all := make(map[string]soaconfig.LocalService, len(n.running))
	for _, r := range n.running {
		all[r.runner.service.File] = r.runner.service
	}
	text := ""
	if err := n.good.Write(all); err != nil {
		text = err.Error()
	}
	if text != "" && text != n.unwritten {
		n.o.Log.Error("write the last good local services failed", "err", text)
	}
	n.unwritten = text
}

// start starts the runner of a service, or replaces it if its file changed. The
// entries of the old one stay until the new one has checked, and a service that
// was up begins as up.
func (n *Nerve) start(ctx context.Context, name string, s soaconfig.LocalService) {
	old, ok := n.running[name]
	if ok && reflect.DeepEqual(old.runner.service, s) {
		return
	}
	e, err := n.entry(s)
	if err != nil {
		n.problems[s.File] = append(n.problems[s.File], soaconfig.Problem{File: s.File, Key: "host", Text: err.Error()})
		return
	}
	publish := func(p *publication) { n.publisher.publish(ctx, name, p) }
	r := newRunner(s, e, n.o.DrainDir, publish, n.now, n.o.Log)
	if ok {
		if old.runner.Status().Up {
			r.wasUp()
		}
		n.end(name)
		n.o.Log.Info("local service changed", "service", name, "path", s.File)
	} else {
		n.o.Log.Info("local service found", "service", name, "path", s.File)
	}
	ctx, cancel := context.WithCancel(ctx)
	fresh := &running{runner: r, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	n.running[name] = fresh
	go func() {
		defer close(fresh.done)
		r.Run(ctx, fresh.wake)
	}()
}

// end stops a runner and waits for it; a check that hangs ends with its
// context.
func (n *Nerve) end(name string) {
	r := n.running[name]
	delete(n.running, name)
	r.cancel()
	<-r.done
}

func (n *Nerve) entry(s soaconfig.LocalService) (registry.Entry, error) {
	e := registry.Entry{Host: s.Host, Port: s.Port, Name: n.o.Hostname, Weight: s.Weight, ServerOptions: s.ServerOptions, Labels: n.o.Locations.Labels(n.o.Here, s.Advertise, s.ExtraAdvertise)}
	maps.Copy(e.Labels, s.Labels)
	if e.Host == "" {
		e.Host = n.o.Address
	}
	if e.Host == "" {
		return e, errors.New("is missing, and this machine's own address is not known: name it here")
	}
	return e, nil
}

func (n *Nerve) wake(service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.running[service]; ok {
		kick(r.wake)
	}
}

func (n *Nerve) wakeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.running {
		kick(r.wake)
	}
}

func kick(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// stop ends every runner and takes its entries out while the process still
// answers, so that no client meets a registered service that is going away.
func (n *Nerve) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.running {
		n.end(name)
	}
	if err := n.publisher.withdraw(ctx); err != nil {
		n.o.Log.Warn("entries of this host may stay until the session expires", "err", err)
	}
}
