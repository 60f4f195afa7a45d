// Package watch notices that something may have changed: tags in git, kicks,
// desired sizes and maintenance in ZooKeeper, apps in Marathon. What it says
// are hints; whoever hears them reads the truth again.
package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/queue"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
)

// TagsOptions say how tags are read; all are required.
type TagsOptions struct {
	Conn    *zk.Conn
	Fence   zk.Fence
	Cluster string
	// Read reads a service's tags and returns what follows from them, in the
	// shape of deployments.json, the same bytes for the same tags.
	Read     func(ctx context.Context, service string) ([]byte, error)
	Poll     time.Duration // between two reads
	Hooked   time.Duration // between two reads of a repository whose hook works
	Parallel int           // reads at a time
	Timeout  time.Duration // of one read
	Log      *slog.Logger
	Changed  func(service string)               // must not block
	Written  func()                             // after each write
	Failed   func(service string, err error)    // nil error: it works again
	Count    func(what string, d time.Duration) // for metrics: "ok" or "failed"
}

// ErrNoRepository is what Read returns, wrapped, for a service of which nobody
// has said yet where its tags are.
var ErrNoRepository = errors.New("no repository is named")

// Tags reads the tags of services: at once when kicked, and otherwise by a
// poll. What it concluded last is in ZooKeeper, and stands while git is down.
type Tags struct {
	o TagsOptions

	mu       sync.Mutex
	q        *queue.Queue[string]
	services map[string]bool
	texts    map[string][]byte
	hooked   map[string]time.Time // last word of a hook that no poll had to make up for
	errs     map[string]error     // why the latest read failed, nil if it did not; without a key before the first one
	loaded   time.Time
	wake     chan struct{}
}

// NewTags returns Tags that have read nothing.
func NewTags(o TagsOptions) *Tags {
	return &Tags{
		o: o, q: queue.New[string](), services: map[string]bool{}, texts: map[string][]byte{},
		hooked: map[string]time.Time{}, errs: map[string]error{}, wake: make(chan struct{}, 1),
	}
}

// trustAfter is how long a first read of a service's tags may take before what an
// earlier leader concluded is acted on.
const trustAfter = 10 * time.Second

// Unconfirmed is how long what Load read of a service is not to be acted on, 0 once
// its tags were read, or that failed: ZooKeeper may have been restored from an older
// backup, and what is in it would bring back an older commit.
func (t *Tags) Unconfirmed(service string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, tried := t.errs[service]; tried {
		return 0
	}
	return max(trustAfter-time.Since(t.loaded), 0)
}

// Load reads what an earlier leader concluded.
func (t *Tags) Load(ctx context.Context) error {
	t.loaded = time.Now()
	dir := path.Dir(paasta.DeploymentsPath(t.o.Cluster, "x"))
	names, _, err := t.o.Conn.Children(ctx, dir)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read deployments: %w", err)
	}
	for _, name := range names {
		text, _, err := t.o.Conn.Get(ctx, path.Join(dir, name))
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read deployments of %s: %w", name, err)
		}
		t.mu.Lock()
		t.texts[name] = text
		t.mu.Unlock()
	}
	return nil
}

// Text returns what is known of a service: deployments.json, nil when nothing
// is, and why the latest read failed.
func (t *Tags) Text(service string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.texts[service], t.errs[service]
}

// Follow sets which services are read. New ones are read soon.
func (t *Tags) Follow(services map[string]bool) {
	t.mu.Lock()
	now := time.Now()
	for name := range services {
		if !t.services[name] {
			t.q.Add(name, now, now, queue.Normal)
		}
	}
	t.services = maps.Clone(services)
	t.mu.Unlock()
	t.poke()
}

// Kick reads a service's tags now. A kick by a hook means that the repository
// tells of its tags itself.
func (t *Tags) Kick(service string, hook bool) {
	t.mu.Lock()
	now := time.Now()
	if t.services[service] {
		if hook {
			t.hooked[service] = now
		}
		t.q.Add(service, now, now, queue.High)
	}
	t.mu.Unlock()
	t.poke()
}

// Reread reads a service's tags soon, because what follows from them may be
// something else now.
func (t *Tags) Reread(service string) {
	t.mu.Lock()
	now := time.Now()
	if t.services[service] {
		t.q.Add(service, now, now, queue.Normal)
	}
	t.mu.Unlock()
	t.poke()
}

func (t *Tags) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run reads until ctx ends, and then returns nil.
func (t *Tags) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, t.o.Parallel)
	for {
		t.mu.Lock()
		now := time.Now()
		pause := time.Hour
		var service string
		if len(slots) < cap(slots) {
			item, ok, next := t.q.Pop(now)
			switch {
			case ok && !t.services[item.Key]:
				t.q.Done(item.Key, false, 0, 0) // not followed any more
				pause = 0
			case ok:
				service = item.Key
			case !next.IsZero():
				pause = next.Sub(now)
			}
		}
		t.mu.Unlock()
		if service != "" {
			slots <- struct{}{}
			wg.Go(func() {
				t.one(ctx, service)
				<-slots
				t.poke()
			})
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-t.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// hookFresh is how long a hook counts as working after it was heard last.
const hookFresh = 24 * time.Hour

// one reads one service and plans its next read.
func (t *Tags) one(ctx context.Context, service string) {
	began := time.Now()
	changed, err := t.read(ctx, service)
	if ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	pause := t.q.Done(service, err != nil, time.Second, max(t.o.Poll, time.Second))
	before, tried := t.errs[service]
	t.errs[service] = err
	hooked := t.hooked[service]
	if changed && began.Sub(hooked) > 10*time.Second {
		delete(t.hooked, service) // the hook did not tell: it is not to be relied on
	}
	if err == nil {
		pause = t.o.Poll
		if last, ok := t.hooked[service]; ok && began.Sub(last) < hookFresh {
			pause = t.o.Hooked
		}
		pause += time.Duration(rand.Int64N(int64(pause)/5 + 1)) // so that not all come at once
	}
	now := time.Now()
	if t.services[service] {
		t.q.Add(service, now, now.Add(pause), queue.Low)
	}
	t.mu.Unlock()

	// A service that has no repository yet fails in nothing.
	known := !errors.Is(err, ErrNoRepository)
	failing, failed := err != nil && known, before != nil && !errors.Is(before, ErrNoRepository)
	what := "ok"
	switch {
	case !known:
		what = ""
		if before == nil || before.Error() != err.Error() {
			t.o.Log.Info("no tags to read", "service", service, "why", err)
		}
	case failing:
		what = "failed"
		if before == nil || before.Error() != err.Error() { // each failure is said once
			t.o.Log.Warn("read tags failed, the last ones stand", "service", service, "err", err, "retry_in", pause)
		}
	case failed:
		t.o.Log.Info("tags can be read again", "service", service)
	}
	if what != "" {
		t.o.Count(what, time.Since(began))
	}
	switch {
	case failing && !failed:
		t.o.Failed(service, err)
	case failed && !failing:
		t.o.Failed(service, nil)
	}
	if changed || !tried {
		t.o.Changed(service)
	}
}

// read reads the tags of a service and stores what follows from them.
func (t *Tags) read(ctx context.Context, service string) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	text, err := t.o.Read(ctx, service)
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	same := bytes.Equal(text, t.texts[service])
	t.mu.Unlock()
	if same {
		return false, nil
	}
	if err := Store(ctx, t.o.Conn, t.o.Fence, paasta.DeploymentsPath(t.o.Cluster, service), text); err != nil {
		return false, err
	}
	t.o.Written()
	t.mu.Lock()
	t.texts[service] = text
	t.mu.Unlock()
	t.o.Log.Info("deployments changed", "service", service)
	return true, nil
}

// Store writes a node, made with its parents if it is not there, if the fence
// still holds.
func Store(ctx context.Context, conn *zk.Conn, fence zk.Fence, p string, data []byte) error {
	const attempts = 5
	var err error
	for range attempts {
		err = conn.Multi(ctx, fence.Op(), zk.Op{Kind: zk.OpSet, Path: p, Data: data, Version: -1})
		var failed *zk.OpError
		if !errors.Is(err, zk.ErrNoNode) || errors.As(err, &failed) && failed.Op.Kind == zk.OpCheck {
			return err
		}
		if err := conn.Create(ctx, path.Dir(p), nil); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
		err = conn.Multi(ctx, fence.Op(), zk.Op{Kind: zk.OpCreate, Path: p, Data: data})
		if !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return err
}
