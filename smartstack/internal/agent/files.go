package agent

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/lastgood"
)

// files are what the agent writes besides what it tells HAProxy. They follow
// within moments, so that many changes cost one write. One writer at a time works
// beside Run, which only takes the snapshots.
type files struct {
	config, cache, good followingFile
	log                 *slog.Logger
	work                sync.WaitGroup
	busy                atomic.Bool

	stale    map[string]bool // registrations that the journal does not have as they are
	journal  journal
	lastGood lastgood.File[goodNamespaces]
	synapse  synapse

	changed  func() // called when errors changed
	mu       sync.Mutex
	failures map[string]error // why a file is not as it should be, by name
}

// A followingFile is written some time after what it holds has changed.
type followingFile struct {
	delay, retry time.Duration
	at           time.Time    // when it is to be written; zero: it is up to date
	failed       atomic.Bool  // it could not be written, and is tried again
	next         atomic.Int64 // the earliest time of the next write, in Unix nanoseconds
}

func newFiles(dir, synapseDir string, log *slog.Logger, changed func()) *files {
	return &files{
		config: followingFile{delay: 100 * time.Millisecond, retry: time.Second},
		cache:  followingFile{delay: 500 * time.Millisecond, retry: 5 * time.Second},
		good:   followingFile{delay: 100 * time.Millisecond, retry: 5 * time.Second},
		log:    log, changed: changed, stale: map[string]bool{}, failures: map[string]error{},
		journal:  journal{path: filepath.Join(dir, "cache.json")},
		lastGood: lastgood.File[goodNamespaces]{Path: filepath.Join(dir, "namespaces.json")},
		synapse:  synapse{dir: synapseDir},
	}
}

// dirty says that what the file holds has changed.
func (f *followingFile) dirty(now time.Time) {
	if f.at.IsZero() {
		f.at = latest(now.Add(f.delay), time.Unix(0, f.next.Load()))
	}
}

// configWritten says that haproxy.cfg was just written.
func (f *files) configWritten() {
	f.config.at = time.Time{}
	f.config.failed.Store(false)
	f.wrote("haproxy.cfg", nil)
}

// membersChanged says that the members of a registration changed.
func (f *files) membersChanged(now time.Time, name string) {
	f.stale[name] = true
	f.cache.dirty(now)
}

// wrote notes whether a file could be written.
func (f *files) wrote(name string, err error) {
	if err != nil {
		f.log.Error("write a file of state_dir failed", "path", name, "err", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (err == nil) != (f.failures[name] == nil) {
		f.changed()
	}
	f.failures[name] = err
	if err == nil {
		delete(f.failures, name)
	}
}

// err says which files are not as they should be.
func (f *files) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.failures) == 0 {
		return nil
	}
	var errs []string
	for _, name := range slices.Sorted(maps.Keys(f.failures)) {
		errs = append(errs, f.failures[name].Error())
	}
	return fmt.Errorf("%s; what was there is used, and each is tried again: make room in state_dir", strings.Join(errs, "; "))
}

func (f *files) due() time.Time { return earliest(f.config.at, earliest(f.cache.at, f.good.at)) }

// write starts the writer of what is due.
func (f *files) write(a *Agent, now time.Time) {
	all := [...]struct {
		*followingFile
		writer func(*Agent) (write func() error)
	}{{&f.config, f.configWriter}, {&f.cache, f.cacheWriter}, {&f.good, f.goodWriter}}
	for _, x := range all {
		if x.failed.Swap(false) {
			x.dirty(now.Add(x.retry))
			if x.followingFile == &f.cache {
				for name := range a.registrations {
					f.stale[name] = true
				}
			}
		}
		switch {
		case x.at.IsZero() || now.Before(x.at):
		case f.busy.Load(): // it waits for the other writer, and wakes us again
			x.at = now.Add(20 * time.Millisecond)
		default:
			x.at = time.Time{}
			write := x.writer(a)
			f.busy.Store(true)
			f.work.Go(func() {
				defer f.busy.Store(false)
				begin := time.Now()
				x.failed.Store(write() != nil)
				// In a storm of changes a file of megabytes must not cost more than what it
				// follows: what takes long is done less often.
				took := time.Since(begin)
				x.next.Store(time.Now().Add(min(500*took, 10*time.Second)).UnixNano())
			})
		}
	}
}

// flush writes what is due soon, before the agent ends.
func (f *files) flush(a *Agent) {
	for n := range 3 { // one at a time; each time what waited for the one before is due, too
		f.work.Wait()
		f.write(a, time.Now().Add(time.Duration(n+1)*time.Hour))
	}
	f.work.Wait()
}

// writeConfig writes what HAProxy has, so that its next start begins from there.
func (f *files) writeConfig(a *Agent) {
	f.work.Wait() // else an older one may come after this
	f.config.failed.Store(f.configWriter(a)() != nil)
}

// configWriter returns what writes haproxy.cfg as HAProxy is now.
func (f *files) configWriter(a *Agent) func() error {
	sections := slices.Collect(maps.Values(a.proxy.running))
	global, custom, process := a.proxy.global, a.proxy.custom, a.o.Process
	return func() error {
		if len(sections) == 0 {
			return nil
		}
		err := process.WriteBy(func(w *bufio.Writer) { haproxy.Write(w, global, custom, sections) })
		f.wrote("haproxy.cfg", err)
		return err
	}
}

// cacheWriter returns what writes the members that changed, for the next start and
// for other tools.
func (f *files) cacheWriter(a *Agent) func() error {
	now, whole := time.Now(), f.journal.full() && len(a.registrations) > 0
	changed := map[string][]*discover.Member{}
	views := map[string]map[string][]*discover.Member{}
	var gone, strays []string
	for name := range f.stale {
		if a.registrations[name] == nil {
			gone = append(gone, name)
			changed[name] = nil // which says so
		}
	}
	// As a whole, what soa-configs did not tell yet is not forgotten.
	for name, r := range a.registrations {
		if !whole && !f.stale[name] {
			continue
		}
		changed[name] = r.members.Serving()
		if f.synapse.dir != "" {
			views[name] = r.namespace.ByView(changed[name])
		}
	}
	clear(f.stale)
	if whole {
		strays = f.synapse.strays(a.registrations)
	}
	return func() error {
		err := f.journal.write(now, changed, whole)
		f.wrote("cache.json", err)
		others := f.synapse.write(views, gone, strays)
		if others != nil {
			f.log.Error("write files for other tools failed", "err", others)
		}
		return errors.Join(err, others)
	}
}

// goodWriter returns what writes the namespaces as they are served.
func (f *files) goodWriter(a *Agent) func() error {
	all := make([]*soaconfig.Namespace, 0, len(a.registrations))
	for _, name := range slices.Sorted(maps.Keys(a.registrations)) {
		r := a.registrations[name]
		switch {
		case !r.namespace.Proxied() || r.namespace.Runs(a.proxy.running[name]):
			all = append(all, r.namespace.Source)
		case r.good.Source != nil:
			all = append(all, r.good.Source)
		}
	}
	return func() error {
		err := f.lastGood.Write(goodNamespaces{goodFormat, all})
		f.wrote("namespaces.json", err)
		return err
	}
}

// prepare makes what HAProxy reads besides its config. Without room on the disk
// the agent goes on with what is there.
func (f *files) prepare(o Options) {
	text, err := os.ReadFile(o.Settings.CallerMap)
	if err != nil || !isCallerMap(string(text)) { // HAProxy would refuse every config with it
		err = atomicfile.Write(o.Settings.CallerMap, nil, 0o644)
	}
	f.wrote(filepath.Base(o.Settings.CallerMap), err)
	script := o.Global.DelayScript
	if text, err := os.ReadFile(script); err != nil || string(text) != haproxy.DelayScript {
		f.wrote(filepath.Base(script), atomicfile.Write(script, []byte(haproxy.DelayScript), 0o644))
	} else {
		f.wrote(filepath.Base(script), nil)
	}
}
