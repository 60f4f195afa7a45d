package nerve

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
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
	Keeper    Keeper
	Log       *slog.Logger
}

// A Nerve checks and registers the services of this host.
type Nerve struct {
	o         Options
	now       func() time.Time
	publisher *publisher

	mu      sync.Mutex
	running map[string]*running
	broken  map[string]soaconfig.Problems // by file
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
	return &Nerve{o: o, now: time.Now, publisher: newPublisher(o.Keeper, o.Log), running: map[string]*running{}, broken: map[string]soaconfig.Problems{}}
}

// Status returns the services of this host, by name, and the files that are
// broken.
func (n *Nerve) Status() ([]Status, map[string]soaconfig.Problems) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Status
	for _, name := range slices.Sorted(maps.Keys(n.running)) {
		all = append(all, n.running[name].runner.Status())
	}
	return all, maps.Clone(n.broken)
}

// Run checks and registers until ctx ends. Then it takes every entry of this
// host out of the registry, waits at most five seconds for that, and returns
// nil.
func (n *Nerve) Run(ctx context.Context) error {
	files, err := watchDirs(n.o.Dir, n.o.DrainDir)
	if err != nil {
		n.o.Log.Warn("no file events, reading again every now and then", "err", err, "every", n.o.Resync)
	} else {
		defer files.Close()
	}
	var events chan fsnotify.Event
	if files != nil {
		events = files.Events
	}
	resync := time.NewTicker(n.o.Resync)
	defer resync.Stop()
	n.read(ctx)
	for {
		// A file changed, in one of the two directories; some time has passed; or
		// the agent stops.
		select {
		case <-ctx.Done():
			n.stop(context.WithoutCancel(ctx))
			return nil
		case event := <-events:
			if filepath.Dir(event.Name) == filepath.Clean(n.o.DrainDir) {
				n.wake(filepath.Base(event.Name))
				continue
			}
			settle(ctx, events)
			n.read(ctx)
			n.wakeAll()
		case <-resync.C:
			if files != nil {
				addDirs(files, n.o.Dir, n.o.DrainDir)
			}
			n.read(ctx)
		}
	}
}

// watchDirs watches directories that exist; Run adds those that come later.
func watchDirs(dirs ...string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	addDirs(w, dirs...)
	return w, nil
}

// addDirs watches the directories again. One that does not exist yet is found
// by the next resync; adding one twice changes nothing.
func addDirs(w *fsnotify.Watcher, dirs ...string) {
	for _, dir := range dirs {
		_ = w.Add(dir) // not there yet, or too many watches: the resync reads it anyway
	}
}

// settle lets a burst of events pass, for at most a few milliseconds, so that a
// copy of ten files is one reading.
func settle(ctx context.Context, events <-chan fsnotify.Event) {
	quiet := time.NewTimer(20 * time.Millisecond)
	defer quiet.Stop()
	for {
		select {
		case <-events:
		case <-quiet.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// read makes the runners those of the files. A broken file leaves its service
// as it was; only a file that is gone takes it out.
func (n *Nerve) read(ctx context.Context) {
	services, broken, err := readDir(n.o.Dir)
	if err != nil {
		n.o.Log.Warn("services directory not readable, going on with what is known", "path", n.o.Dir, "err", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for file, problems := range broken {
		if !reflect.DeepEqual(n.broken[file], problems) {
			n.o.Log.Error("local service file is broken, going on with what it said before", "path", file, "err", problems)
		}
	}
	n.broken = broken
	for name, s := range services {
		n.start(ctx, name, s)
	}
	for name, r := range n.running {
		_, sound := services[name]
		_, isBroken := broken[r.runner.service.File]
		if !sound && !isBroken {
			n.o.Log.Info("local service is no longer configured", "service", name)
			n.end(name)
			n.publisher.publish(ctx, name, nil)
		}
	}
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
		n.broken[s.File] = soaconfig.Problems{{File: s.File, Key: "host", Text: err.Error()}}
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
	e := registry.Entry{Host: s.Host, Port: s.Port, Name: n.o.Hostname, Weight: s.Weight, Labels: n.o.Locations.Labels(n.o.Here, s.Advertise, s.ExtraAdvertise)}
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

// readDir reads every file of dir. A directory that does not exist has none.
func readDir(dir string) (services map[string]soaconfig.LocalService, broken map[string]soaconfig.Problems, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	services, broken = map[string]soaconfig.LocalService{}, map[string]soaconfig.Problems{}
	for _, entry := range entries {
		name := entry.Name()
		switch extension := filepath.Ext(name); {
		case strings.HasPrefix(name, "."), extension != ".yaml" && extension != ".yml" && extension != ".json":
			continue
		}
		file := filepath.Join(dir, name)
		s, problems := soaconfig.ReadLocalService(file)
		if first, ok := services[s.Name]; ok && len(problems) == 0 {
			problems = soaconfig.Problems{{File: file, Text: first.File + " describes a service of the same name"}}
		}
		if len(problems) > 0 {
			broken[file] = problems
			continue
		}
		services[s.Name] = s
	}
	return services, broken, nil
}
