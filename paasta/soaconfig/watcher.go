package soaconfig

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A Watcher reloads a tree when its files change (fsnotify, a hint) and every
// resync; services that did not change keep their *Service pointer.
type Watcher struct {
	Dir     string
	Options Options
	Resync  time.Duration // default 1m
}

const (
	quiet        = 30 * time.Millisecond  // without events before a reload: an editor or git writes many files
	longestPause = 500 * time.Millisecond // that a stream of events may put a reload off
	retry        = 2 * time.Second        // between two looks at a directory that cannot be read or watched
)

// Run calls changed with each new tree, first with the initial one, until ctx
// ends; then it returns nil. names lists the services that changed, appeared or
// disappeared. When the directory cannot be read, failed is called and the last
// tree stands; so it does when all of several services are gone at once, which
// is what an unmounted directory looks like.
func (w *Watcher) Run(ctx context.Context, changed func(t *Tree, names []string), failed func(error)) error {
	resync := w.Resync
	if resync <= 0 {
		resync = time.Minute
	}
	r := reload{dir: w.Dir, options: w.Options}
	// Without a notifier, or with more directories than the kernel lets us
	// watch, we look more often instead.
	notifier, err := fsnotify.NewWatcher()
	var events <-chan fsnotify.Event
	var errs <-chan error
	if err == nil {
		defer notifier.Close()
		events, errs = notifier.Events, notifier.Errors
		r.notifier = notifier
	}
	for {
		if t, names, err := r.load(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			failed(err)
		} else if len(names) > 0 || t != r.last {
			r.last = t
			changed(t, names)
		}
		every := resync
		if r.last == nil || r.failing || !r.watched {
			every = min(resync, retry)
		}
		if !r.wait(ctx, every, events, errs) {
			return nil
		}
	}
}

// wait returns when it is time to look again: after events and a pause without
// further ones, or after every. False means that ctx ended.
func (r *reload) wait(ctx context.Context, every time.Duration, events <-chan fsnotify.Event, errs <-chan error) bool {
	timer := time.NewTimer(every)
	defer timer.Stop()
	var last time.Time // when events can no longer put it off; zero before the first
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case err := <-errs: // an overflow, say: some event was lost, so look at everything
			if err == nil { // closed
				errs = nil
				continue
			}
			r.dirty = nil
			timer.Reset(quiet)
		case e := <-events:
			if !r.concerns(e) {
				continue
			}
			now := time.Now()
			if last.IsZero() {
				last = now.Add(longestPause)
			}
			timer.Reset(min(quiet, max(0, last.Sub(now))))
		}
	}
}

// reload is what a Watcher remembers between two looks.
type reload struct {
	dir      string
	options  Options
	notifier *fsnotify.Watcher
	watching map[string]string // path → the real directory behind it
	watched  bool              // everything that should be
	failing  bool

	raw    map[string]*Service
	prints map[string]fingerprint
	dirty  map[string]bool // services that an event named
	last   *Tree
}

// concerns notes which service an event is about. Reading files makes no
// events that we ask for; of changed modes we want to know, for permissions.
func (r *reload) concerns(e fsnotify.Event) bool {
	if r.dirty == nil {
		r.dirty = map[string]bool{}
	}
	rel, err := filepath.Rel(r.dir, e.Name)
	if err != nil || strings.HasPrefix(rel, "..") {
		// Beside the directory: of interest only if that is a link.
		return filepath.Base(e.Name) == filepath.Base(r.dir)
	}
	service, _, _ := strings.Cut(rel, string(filepath.Separator))
	r.dirty[service] = true
	return true
}

// load reads what changed. It returns the services that did.
func (r *reload) load(ctx context.Context) (*Tree, []string, error) {
	// Watch first, then read: what changes in between makes an event.
	r.watch()
	names, problems, err := listServices(r.dir)
	if err == nil && len(names) == 0 && r.last != nil && len(r.last.Services) > 1 {
		err = fmt.Errorf("read soa-configs: %s is empty and had %d services: is it mounted?", r.dir, len(r.last.Services))
	}
	r.failing = err != nil
	if err != nil {
		return nil, nil, err
	}
	dirty := r.dirty
	r.dirty = nil
	raw := make(map[string]*Service, len(names))
	prints := make(map[string]fingerprint, len(names))
	parsed := make([]*Service, len(names))
	fresh := make([]fingerprint, len(names))
	err = inParallel(ctx, len(names), func(i int) {
		name := names[i]
		fresh[i] = takeFingerprint(filepath.Join(r.dir, name))
		if old := r.raw[name]; old != nil && !dirty[name] && fresh[i] == r.prints[name] {
			parsed[i] = old
			return
		}
		options := r.options
		if old := r.raw[name]; old != nil {
			options.remember(old)
		}
		parsed[i] = parseService(r.dir, name, r.options)
		if len(parsed[i].Unreadable) > 0 {
			parsed[i].unreadable(parsed[i].Unreadable[0], options.Clusters)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	for i, name := range names {
		raw[name], prints[name] = parsed[i], fresh[i]
		if old := r.raw[name]; old != nil && same(old, parsed[i]) {
			raw[name] = old
		}
	}
	r.raw, r.prints = raw, prints
	t := assemble(r.dir, raw, problems, r.last)
	changed := difference(r.last, t)
	if r.last != nil && len(changed) == 0 && slices.Equal(r.last.Problems, t.Problems) {
		return r.last, nil, nil
	}
	return t, changed, nil
}

// remember adds the clusters of an earlier reading, for a directory that can no
// longer be listed.
func (o *Options) remember(s *Service) {
	all := slices.Clone(o.Clusters)
	for c := range s.Instances {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	o.Clusters = all
}

// difference lists the services that are not the same in both trees, sorted.
func difference(old, now *Tree) []string {
	var names []string
	for name, s := range now.Services {
		if old == nil || old.Services[name] != s {
			names = append(names, name)
		}
	}
	if old != nil {
		for name := range old.Services {
			if now.Services[name] == nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// same tells whether two readings of a service say the same.
func same(a, b *Service) bool { return a == b || reflect.DeepEqual(a, b) }

// watch asks for events of the directory, its services, and, when the
// directory is a link, of the place where the link is.
func (r *reload) watch() {
	r.watched = r.notifier != nil
	if r.notifier == nil {
		return
	}
	want := map[string]string{}
	add := func(path string) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			want[path] = real
		}
	}
	add(r.dir)
	if info, err := os.Lstat(r.dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		add(filepath.Dir(filepath.Clean(r.dir)))
	}
	if names, _, err := listServices(r.dir); err == nil {
		for _, name := range names {
			add(filepath.Join(r.dir, name))
		}
	}
	for path, real := range r.watching {
		if want[path] != real {
			_ = r.notifier.Remove(path) // it may be gone, which removes it, too
			delete(r.watching, path)
		}
	}
	if r.watching == nil {
		r.watching = map[string]string{}
	}
	watched := map[string]bool{}
	for _, path := range r.notifier.WatchList() {
		watched[path] = true
	}
	for path, real := range want {
		if r.watching[path] == real && watched[path] {
			continue
		}
		if err := r.notifier.Add(path); err != nil {
			r.watched = false // not allowed to, or too many: look more often
			continue
		}
		r.watching[path] = real
	}
}

// A fingerprint changes when a file of a directory does. Events say what it
// misses: a write of equal length within one tick of the file system's clock. It
// is a hash, since a host keeps a thousand of them.
type fingerprint [sha256.Size]byte

func takeFingerprint(dir string) fingerprint {
	h := sha256.New()
	note := func(name, path string) {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(h, "%q cannot be read\n", name)
			return
		}
		var device, inode any // another file of the same size and time
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			device, inode = s.Dev, s.Ino
		}
		fmt.Fprintf(h, "%q %d %d %v %v %v\n", name, info.Size(), info.ModTime().UnixNano(), info.Mode(), device, inode)
	}
	note(".", dir)
	entries, err := os.ReadDir(dir) // sorted
	if err == nil {
		for _, e := range entries {
			note(e.Name(), filepath.Join(dir, e.Name()))
		}
	}
	return fingerprint(h.Sum(nil))
}
