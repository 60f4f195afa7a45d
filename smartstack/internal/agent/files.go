package agent

import (
	"bufio"
	"fmt"
	"os"
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
	// One writer at a time works beside Run, which only takes the snapshots.
	work sync.WaitGroup
	busy atomic.Bool
	// What could not be written is tried again.
	configFailed, cacheFailed atomic.Bool
	// The earliest times of the next ones, in Unix nanoseconds: what takes long is
	// done less often.
	configNext, cacheNext atomic.Int64
	stale                 map[string]bool // registrations that the cache does not have as they are
	cache                 journal
	synapse               synapse
}

const (
	configDelay = 100 * time.Millisecond
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

// clean says that haproxy.cfg was just written.
func (f *files) clean() { f.configAt = time.Time{} }

func (f *files) due() time.Time {
	if f.configAt.IsZero() || !f.cacheAt.IsZero() && f.cacheAt.Before(f.configAt) {
		return f.cacheAt
	}
	return f.configAt
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
	if f.busy.Load() {
		// What is due waits for the writer, and wakes us again.
		for _, at := range []*time.Time{&f.configAt, &f.cacheAt} {
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
	for range 2 { // one at a time
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
	custom := a.hap.custom
	return func() {
		err := a.o.Process.WriteBy(func(w *bufio.Writer) { haproxy.Write(w, a.o.Global, custom, sections) })
		if err != nil {
			a.log.Error("wrote haproxy.cfg", "err", err)
			a.files.configFailed.Store(true)
		}
	}
}

// cacheWriter returns what writes what changed, for the next start and for other
// tools.
func (a *Agent) cacheWriter(now time.Time) func() {
	f := &a.files
	changed := make(map[string][]*discover.Member, len(f.stale))
	var gone []string
	for name := range f.stale {
		if r := a.registrations[name]; r != nil {
			changed[name] = r.members.Serving()
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
		gone = append(gone, f.synapse.others(a.registrations)...)
	}
	return func() {
		var err error
		if all != nil {
			err = f.cache.write(now, all)
		} else {
			err = f.cache.add(now, changed, gone)
		}
		if err != nil {
			a.log.Error("wrote the cache", "err", err)
			f.cacheFailed.Store(true)
		}
		if err := f.synapse.write(changed, gone); err != nil {
			a.log.Error("wrote files for other tools", "err", err)
			f.cacheFailed.Store(true)
		}
	}
}

func ensureFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return f.Close()
}
