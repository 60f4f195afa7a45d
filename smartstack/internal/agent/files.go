package agent

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// files are what the agent writes besides what it tells HAProxy. They follow
// within moments, so that many changes cost one write.
type files struct {
	configAt time.Time // when haproxy.cfg is to be written; zero: it is up to date
	cacheAt  time.Time
	goodAt   time.Time
	// One writer at a time works beside Run, which only takes the snapshots.
	work sync.WaitGroup
	busy atomic.Bool
	// What could not be written is tried again.
	configFailed, cacheFailed, goodFailed atomic.Bool
	// The earliest times of the next ones, in Unix nanoseconds: what takes long is
	// done less often.
	configNext, cacheNext, goodNext atomic.Int64

	stale   map[string]bool // registrations that the cache does not have as they are
	cache   journal
	good    goodFile
	synapse synapse

	failed   func() // called when errors changed
	mu       sync.Mutex
	failures map[string]error // why a file is not as it should be, by name
}

// wrote notes whether a file could be written; again has it tried again.
func (f *files) wrote(name string, err error, again func()) {
	if err != nil && again != nil {
		again()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (err == nil) != (f.failures[name] == nil) {
		f.failed()
	}
	if err == nil {
		delete(f.failures, name)
		return
	}
	if f.failures == nil {
		f.failures = map[string]error{}
	}
	f.failures[name] = err
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

const (
	configDelay = 100 * time.Millisecond
	goodDelay   = 100 * time.Millisecond
	cacheDelay  = 500 * time.Millisecond
)

func (f *files) configDirty(now time.Time) {
	if f.configAt.IsZero() {
		f.configAt = latest(now.Add(configDelay), time.Unix(0, f.configNext.Load()))
	}
}

// cacheDirty says that the members of a registration changed.
func (f *files) cacheDirty(now time.Time, name string) {
	if f.stale == nil {
		f.stale = map[string]bool{}
	}
	f.stale[name] = true
	if f.cacheAt.IsZero() {
		f.cacheAt = latest(now.Add(cacheDelay), time.Unix(0, f.cacheNext.Load()))
	}
}

// goodDirty says that namespaces are served in another way.
func (f *files) goodDirty(now time.Time) {
	if f.goodAt.IsZero() {
		f.goodAt = latest(now.Add(goodDelay), time.Unix(0, f.goodNext.Load()))
	}
}

// clean says that haproxy.cfg was just written.
func (f *files) clean() {
	f.configAt = time.Time{}
	f.wrote("haproxy.cfg", nil, nil)
}

func (f *files) due() time.Time {
	var due time.Time
	for _, at := range []time.Time{f.configAt, f.cacheAt, f.goodAt} {
		if !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	return due
}

func (f *files) write(a *Agent, now time.Time) {
	if f.configFailed.Swap(false) {
		f.configDirty(now.Add(time.Second))
	}
	if f.cacheFailed.Swap(false) {
		for name := range a.registrations {
			f.cacheDirty(now.Add(5*time.Second), name)
		}
	}
	if f.goodFailed.Swap(false) {
		f.goodDirty(now.Add(5 * time.Second))
	}
	if f.busy.Load() {
		// What is due waits for the writer, and wakes us again.
		for _, at := range []*time.Time{&f.configAt, &f.cacheAt, &f.goodAt} {
			if !at.IsZero() && !now.Before(*at) {
				*at = now.Add(20 * time.Millisecond)
			}
		}
		return
	}
	if !f.configAt.IsZero() && !now.Before(f.configAt) {
		f.configAt = time.Time{}
		f.beside(&f.configNext, a.configWriter())
		return // one at a time
	}
	if !f.cacheAt.IsZero() && !now.Before(f.cacheAt) {
		f.cacheAt = time.Time{}
		f.beside(&f.cacheNext, a.cacheWriter(time.Now()))
		return
	}
	if !f.goodAt.IsZero() && !now.Before(f.goodAt) {
		f.goodAt = time.Time{}
		f.beside(&f.goodNext, a.goodWriter())
	}
}

// beside runs write in a goroutine of its own, and notes when to do so again.
func (f *files) beside(next *atomic.Int64, write func()) {
	f.busy.Store(true)
	f.work.Go(func() {
		defer f.busy.Store(false)
		begin := time.Now()
		write()
		next.Store(rest(begin).UnixNano())
	})
}

// rest is when to write a file again that was begun at begin and is written now:
// in a storm of changes a file of megabytes must not cost more than what it
// follows.
func rest(begin time.Time) time.Time {
	now := time.Now()
	return now.Add(min(500*now.Sub(begin), 10*time.Second))
}

// flush writes what is due soon, before the agent ends.
func (a *Agent) flush() {
	for range 3 { // one at a time
		a.files.work.Wait()
		a.files.write(a, time.Now().Add(time.Hour))
	}
	a.files.work.Wait()
}

// writeConfig writes what HAProxy has, so that its next start begins from there.
func (a *Agent) writeConfig() {
	a.files.work.Wait() // else an older one may come after this
	a.configWriter()()
}

// configWriter returns what writes haproxy.cfg as HAProxy is now.
func (a *Agent) configWriter() func() {
	if len(a.hap.running) == 0 {
		return func() {}
	}
	sections := make([]*haproxy.Section, 0, len(a.hap.running))
	for _, s := range a.hap.running {
		sections = append(sections, s)
	}
	global, custom := a.o.Global, a.hap.custom
	return func() {
		err := a.o.Process.WriteBy(func(w *bufio.Writer) { haproxy.Write(w, global, custom, sections) })
		if err != nil {
			a.log.Error("write haproxy.cfg failed", "err", err)
		}
		a.files.wrote("haproxy.cfg", err, func() { a.files.configFailed.Store(true) })
	}
}

// cacheWriter returns what writes what changed, for the next start and for other
// tools.
func (a *Agent) cacheWriter(now time.Time) func() {
	f := &a.files
	changed := make(map[string][]*discover.Member, len(f.stale))
	views := make(map[string]map[string][]*discover.Member, len(f.stale))
	var gone, strays []string
	for name := range f.stale {
		if r := a.registrations[name]; r != nil {
			changed[name] = r.members.Serving()
			if f.synapse.dir != "" {
				views[name] = r.namespace.ByView(changed[name])
			}
		} else {
			gone = append(gone, name)
		}
	}
	f.stale = nil
	// What soa-configs did not tell yet is not forgotten.
	var all map[string][]*discover.Member
	if f.cache.full() && len(a.registrations) > 0 {
		all = make(map[string][]*discover.Member, len(a.registrations))
		for name, r := range a.registrations {
			all[name] = r.members.Serving()
		}
		strays = f.synapse.strays(a.registrations)
	}
	return func() {
		var err error
		if all != nil {
			err = f.cache.write(now, all)
		} else {
			err = f.cache.add(now, changed, gone)
		}
		if err != nil {
			a.log.Error("write the cache failed", "err", err)
		}
		f.wrote("cache.json", err, func() { f.cacheFailed.Store(true) })
		if err := f.synapse.write(views, gone, strays); err != nil {
			a.log.Error("write files for other tools failed", "err", err)
			f.cacheFailed.Store(true)
		}
	}
}

// prepare makes what HAProxy reads besides its config. Without room on the disk
// the agent goes on with what is there.
func (a *Agent) prepare() {
	report := func(path string, err error) {
		if err != nil {
			a.log.Error("make a file that HAProxy reads failed", "path", path, "err", err)
		}
		a.files.wrote(filepath.Base(path), err, nil)
	}
	report(a.o.Settings.CallerMap, ensureFile(a.o.Settings.CallerMap))
	script := a.o.Global.DelayScript
	if text, err := os.ReadFile(script); err == nil && string(text) == haproxy.DelayScript {
		report(script, nil)
		return
	}
	report(script, haproxy.WriteFile(script, []byte(haproxy.DelayScript), 0o644))
}

func ensureFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return f.Close()
}
