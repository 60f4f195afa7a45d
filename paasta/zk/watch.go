package zk

import (
	"context"
	"errors"

	"github.com/go-zookeeper/zk"
)

// A watchKey is what ZooKeeper watches: for "exists" the creation of a node.
type watchKey struct {
	path string // without the root
	kind watchKind
}

type watchKind int

const (
	watchChildren watchKind = iota
	watchData
	watchExists
)

// A watch is one watch of this session and all who want to hear of it. It
// leaves Conn.watches when it fires.
type watch struct {
	set   bool // the server has it: no need to set it again
	wakes map[waker]bool
}

// A waker is somebody who wants to hear of something. What wakes it holds locks
// of the Conn, so that it must neither block nor call the Conn.
type waker interface{ wake() }

// A sender is woken through a channel, without blocking.
type sender chan<- struct{}

func (s sender) wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// A Call is woken by a call of its function, which must neither block nor call
// the Conn: for those who wait for a thousand things, without a goroutine for
// each. It is known by its pointer.
type Call struct{ Func func() }

func (c *Call) wake() { c.Func() }

// want registers wake before the request that sets the watch is made, so that
// no event falls between.
func (c *Conn) want(key watchKey, wake waker) *watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil {
		w = &watch{wakes: map[waker]bool{}}
		c.watches[key] = w
	}
	w.wakes[wake] = true
	return w
}

// isSet says whether the server has w, and setTo notes it. If w has fired in
// the meantime that note is of no effect, since nobody finds w any more.
func (c *Conn) isSet(w *watch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return w.set
}

func (c *Conn) setTo(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.set = true
}

// unwant takes wake back after a request that set no watch.
func (c *Conn) unwant(key watchKey, wake waker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil || w.set {
		return
	}
	delete(w.wakes, wake)
	if len(w.wakes) == 0 {
		delete(c.watches, key)
	}
}

// fire tells those whose watch e ends.
func (c *Conn) fire(e zk.Event) {
	var kinds []watchKind
	switch e.Type {
	case zk.EventNodeCreated:
		kinds = []watchKind{watchExists}
	case zk.EventNodeDataChanged:
		kinds = []watchKind{watchData, watchExists}
	case zk.EventNodeChildrenChanged:
		kinds = []watchKind{watchChildren}
	default: // deleted, or not watching any more
		kinds = []watchKind{watchChildren, watchData, watchExists}
	}
	path := e.Path[min(len(c.root), len(e.Path)):]
	if path == "" {
		path = "/"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range kinds {
		c.lose(watchKey{path, kind})
	}
}

// loseWatches reports every watch as lost. c.mu is held.
func (c *Conn) loseWatches() {
	for key := range c.watches {
		c.lose(key)
	}
}

func (c *Conn) lose(key watchKey) {
	w := c.watches[key]
	if w == nil {
		return
	}
	delete(c.watches, key)
	for w := range w.wakes {
		w.wake()
	}
}

// WatchChildren is Children, and sends once on wake, without blocking, when
// they change, the node goes, or the watch is lost (as it is by every
// reconnect). For a node that does not exist it watches for its creation and
// returns ErrNoNode. Any other error means that there is no watch. Calling it
// again before the watch fired costs no second watch.
func (c *Conn) WatchChildren(ctx context.Context, path string, wake chan<- struct{}) ([]string, Stat, error) {
	return c.watchChildren(ctx, path, sender(wake))
}

// WatchChildrenBy is WatchChildren with a call instead of a channel.
func (c *Conn) WatchChildrenBy(ctx context.Context, path string, wake *Call) ([]string, Stat, error) {
	return c.watchChildren(ctx, path, wake)
}

func (c *Conn) watchChildren(ctx context.Context, path string, wake waker) ([]string, Stat, error) {
	r, err := watched(ctx, c, path, watchChildren, wake,
		func(lib *zk.Conn, p string) (read[[]string], error) {
			names, stat, err := lib.Children(p)
			return read[[]string]{names, toStat(stat)}, err
		},
		func(lib *zk.Conn, p string) (read[[]string], error) {
			names, stat, _, err := lib.ChildrenW(p)
			return read[[]string]{names, toStat(stat)}, err
		})
	return r.value, r.stat, err
}

// WatchData is Get with a watch in the manner of WatchChildren.
func (c *Conn) WatchData(ctx context.Context, path string, wake chan<- struct{}) ([]byte, Stat, error) {
	r, err := watched(ctx, c, path, watchData, sender(wake),
		func(lib *zk.Conn, p string) (read[[]byte], error) {
			data, stat, err := lib.Get(p)
			return read[[]byte]{data, toStat(stat)}, err
		},
		func(lib *zk.Conn, p string) (read[[]byte], error) {
			data, stat, _, err := lib.GetW(p)
			return read[[]byte]{data, toStat(stat)}, err
		})
	return r.value, r.stat, err
}

func watched[T any](ctx context.Context, c *Conn, path string, kind watchKind, wake waker,
	plain, watching func(*zk.Conn, string) (read[T], error),
) (read[T], error) {
	key := watchKey{path, kind}
	const attempts = 10 // each finds the node gone, and then there
	for range attempts {
		r, err := call(ctx, c, "watch", path, true, func(lib *zk.Conn, _ int) (read[T], error) {
			w := c.want(key, wake)
			if c.isSet(w) {
				return plain(lib, c.full(path))
			}
			r, err := watching(lib, c.full(path))
			if err == nil {
				c.setTo(w)
			}
			return r, err
		})
		if err == nil {
			return r, nil
		}
		c.unwant(key, wake)
		if !errors.Is(err, ErrNoNode) {
			return r, err
		}
		there, existsErr := c.watchExists(ctx, path, wake)
		if existsErr != nil {
			return r, existsErr
		}
		if !there {
			return r, err
		}
	}
	// Somebody makes and removes it without pause.
	wake.wake()
	return read[T]{}, ErrNoNode
}

// watchExists sets a watch for the creation of path, unless it is there.
func (c *Conn) watchExists(ctx context.Context, path string, wake waker) (bool, error) {
	key := watchKey{path, watchExists}
	there, err := call(ctx, c, "watch", path, true, func(lib *zk.Conn, _ int) (bool, error) {
		w := c.want(key, wake)
		if c.isSet(w) {
			there, _, err := lib.Exists(c.full(path))
			return there, err
		}
		there, _, _, err := lib.ExistsW(c.full(path))
		if err == nil && !there {
			c.setTo(w)
		}
		return there, err
	})
	if err != nil || there {
		c.unwant(key, wake)
	}
	return there, err
}
