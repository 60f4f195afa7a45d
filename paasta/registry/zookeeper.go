package registry

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
)

// ZooKeeper is the Registry below Root.
type ZooKeeper struct {
	conn    *zk.Conn
	fence   *zk.Fence
	watched *watched
	kept    *kept
}

// watched is who wants to hear of which registration, and, as a decode cache, what
// the last List of it saw: the next one decodes only what is new. Without it an agent
// that hears 50 changes a second takes a third more CPU time (docs/design/libraries.md).
type watched struct {
	mu    sync.Mutex
	wakes map[string][]chan<- struct{}
	last  map[string]Set
}

var _ Registry = (*ZooKeeper)(nil)

// NewZooKeeper returns the registry in the ZooKeeper of conn.
func NewZooKeeper(conn *zk.Conn) *ZooKeeper {
	return &ZooKeeper{conn: conn, watched: &watched{wakes: map[string][]chan<- struct{}{}, last: map[string]Set{}}, kept: &kept{paths: map[string]int{}}}
}

// Fenced returns the same registry for a leader: Apply fails with
// zk.ErrNoNode or zk.ErrBadVersion, and changes nothing, once f is not the
// leader's any more.
func (z *ZooKeeper) Fenced(f zk.Fence) *ZooKeeper {
	fenced := *z
	fenced.fence = &f
	return &fenced
}

// readers is how many data reads of one List are under way at a time.
const readers = 32

// List reads the entries of a registration. Path-encoded nodes cost one read
// for all; nodes of nerve's other form one each, every time, because nerve
// changes them in place.
func (z *ZooKeeper) List(ctx context.Context, registration string) (Set, error) {
	dir, err := znode(registration)
	if err != nil {
		return Set{}, err
	}
	names, version, err := z.names(ctx, registration, dir)
	if err != nil {
		return Set{}, err
	}
	last := z.watched.cached(registration)
	// A path-encoded name says it all: what has a known one is known.
	known := make(map[string]*Node, len(last.Nodes))
	for i := range last.Nodes {
		known[last.Nodes[i].Path[len(dir)+1:]] = &last.Nodes[i]
	}
	if last.still(version, names, known) {
		return last, nil
	}
	set := Set{Version: version, Bad: map[string]error{}, Nodes: make([]Node, 0, len(names))}
	var plain []string
	for _, name := range names {
		n := known[name]
		if n != nil && n.Czxid == 0 { // path-encoded, most of all that there are
			set.Nodes = append(set.Nodes, *n)
			continue
		}
		text, ok := decodeName(name)
		if !ok {
			plain = append(plain, name)
			continue
		}
		if n != nil {
			set.Nodes = append(set.Nodes, Node{Entry: n.Entry, Path: n.Path})
			continue
		}
		p := dir + "/" + name
		e, err := Decode(text)
		if err != nil {
			set.Bad[p] = err
			continue
		}
		set.Nodes = append(set.Nodes, Node{Entry: e, Path: p})
	}
	if err := z.read(ctx, dir, plain, &set); err != nil {
		return Set{}, err
	}
	Sort(set.Nodes)
	if err := z.date(ctx, &set); err != nil {
		return Set{}, err
	}
	z.watched.cache(registration, set)
	return set, nil
}

// still tells whether a set with known nodes by name is what a later read sees.
// Nodes of nerve's other form change in place, and what is dated may be another
// one by now.
func (s Set) still(version int64, names []string, known map[string]*Node) bool {
	if version != s.Version || len(names) != len(known) || len(names) == 0 {
		return false
	}
	for _, name := range names {
		if n := known[name]; n == nil || n.Czxid != 0 {
			return false
		}
	}
	return true
}

// names lists the children of dir, and sets a watch for all who asked for one.
func (z *ZooKeeper) names(ctx context.Context, registration, dir string) ([]string, int64, error) {
	var names []string
	var stat zk.Stat
	var err error
	wakes := z.watched.of(registration)
	if len(wakes) == 0 {
		names, stat, err = z.conn.Children(ctx, dir)
	}
	for _, wake := range wakes {
		// All but the first are without a watch of their own in ZooKeeper.
		if names, stat, err = z.conn.WatchChildren(ctx, dir, wake); err != nil && !errors.Is(err, zk.ErrNoNode) {
			break
		}
	}
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("list %s: %w", registration, err)
	}
	return names, stat.Pzxid, nil
}

// read adds the nodes whose entry is their data.
func (z *ZooKeeper) read(ctx context.Context, dir string, names []string, set *Set) error {
	if len(names) == 0 {
		return nil
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, name := range names {
		g.Go(func() error {
			p := path.Join(dir, name)
			text, stat, err := z.conn.Get(ctx, p)
			if errors.Is(err, zk.ErrNoNode) {
				return nil // it went after it was listed
			}
			if err != nil && !errors.Is(err, zk.ErrForbidden) {
				return err
			}
			var e Entry
			if err == nil {
				e, err = Decode(text)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				set.Bad[p] = err
				return nil
			}
			set.Nodes = append(set.Nodes, Node{Entry: e, Path: p, Czxid: stat.Czxid, Text: string(text)})
			return nil
		})
	}
	return g.Wait()
}

// date reads the creation order of nodes that share host and port.
func (z *ZooKeeper) date(ctx context.Context, set *Set) error {
	same := func(i, j int) bool {
		return j >= 0 && j < len(set.Nodes) && set.Nodes[i].Host == set.Nodes[j].Host && set.Nodes[i].Port == set.Nodes[j].Port
	}
	gone := map[string]bool{}
	for i, n := range set.Nodes {
		if n.Czxid != 0 || !same(i, i-1) && !same(i, i+1) {
			continue
		}
		_, stat, err := z.conn.Get(ctx, n.Path)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			gone[n.Path] = true
		case errors.Is(err, zk.ErrForbidden): // its name says all but its age
		case err != nil:
			return err
		}
		set.Nodes[i].Czxid = stat.Czxid
	}
	set.Nodes = slices.DeleteFunc(set.Nodes, func(n Node) bool { return gone[n.Path] })
	return nil
}

// Registrations lists the registrations that exist, sorted.
func (z *ZooKeeper) Registrations(ctx context.Context) ([]string, error) {
	names, _, err := z.conn.Children(ctx, Root)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, fmt.Errorf("list registrations: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		_, err := paasta.ParseRegistration(name)
		return err != nil
	})
	slices.Sort(names)
	return names, nil
}

// Watch calls wake when List might answer differently; see Registry.
func (z *ZooKeeper) Watch(ctx context.Context, registration string, wake func()) error {
	if _, err := znode(registration); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	z.watched.add(ctx, registration, changed)
	z.conn.Sessions(ctx, changed)
	go func() {
		for {
			select {
			case <-changed:
				wake()
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}

func (w *watched) add(ctx context.Context, registration string, wake chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakes[registration] = append(w.wakes[registration], wake)
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		others := slices.DeleteFunc(slices.Clone(w.wakes[registration]), func(c chan<- struct{}) bool { return c == wake })
		w.wakes[registration] = others
		if len(others) == 0 {
			delete(w.wakes, registration)
			delete(w.last, registration)
		}
	})
}

// of returns who wants to hear of a registration. The slice is not changed later.
func (w *watched) of(registration string) []chan<- struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clip(w.wakes[registration])
}

// cached returns what the last List of a registration that somebody watches saw.
func (w *watched) cached(registration string) Set {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[registration]
}

func (w *watched) cache(registration string, set Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wakes[registration]) > 0 {
		w.last[registration] = set
	}
}

func znode(registration string) (string, error) {
	if _, err := paasta.ParseRegistration(registration); err != nil {
		return "", err
	}
	if strings.ContainsFunc(registration, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("registration %q holds control characters", registration)
	}
	return path.Join(Root, registration), nil
}
