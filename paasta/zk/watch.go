package zk

import (
	"context"
	"errors"

	"github.com/go-zookeeper/zk"
)

// A watch is who waits for a change of what. Each is set once.
type watch struct {
	path string
	kind watchKind
	wake chan<- struct{}
}

type watchKind int

const (
	watchChildren watchKind = iota
	watchData
	watchExists // for the creation of a node
)

func notify(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// isSet tells whether w is still to fire.
func (c *Conn) isSet(w watch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watches[w]
}

// follow wakes w's receiver at the event, which the library sends when the session
// ends, too.
func (c *Conn) follow(w watch, event <-chan zk.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		return
	}
	c.watches[w] = true
	c.following.Go(func() {
		select {
		case <-event:
		case <-c.life.Done():
		}
		c.mu.Lock()
		delete(c.watches, w)
		c.mu.Unlock()
		notify(w.wake)
	})
}

// WatchChildren is Children, and sends once on wake, without blocking, when
// they change, the node goes, or the connection was lost and came back. For a node
// that does not exist it watches for its creation and returns ErrNoNode. Any other
// error means that there is no watch. Calling it again before the watch fired costs
// no second watch.
func (c *Conn) WatchChildren(ctx context.Context, path string, wake chan<- struct{}) ([]string, Stat, error) {
	r, err := watched(ctx, c, watch{path, watchChildren, wake},
		func(lib *zk.Conn, p string) (read[[]string], error) {
			names, stat, err := lib.Children(p)
			return read[[]string]{names, toStat(stat)}, err
		},
		func(lib *zk.Conn, p string) (read[[]string], <-chan zk.Event, error) {
			names, stat, event, err := lib.ChildrenW(p)
			return read[[]string]{names, toStat(stat)}, event, err
		})
	return r.value, r.stat, err
}

// WatchData is Get with a watch in the manner of WatchChildren.
func (c *Conn) WatchData(ctx context.Context, path string, wake chan<- struct{}) ([]byte, Stat, error) {
	r, err := watched(ctx, c, watch{path, watchData, wake},
		func(lib *zk.Conn, p string) (read[[]byte], error) {
			data, stat, err := lib.Get(p)
			return read[[]byte]{data, toStat(stat)}, err
		},
		func(lib *zk.Conn, p string) (read[[]byte], <-chan zk.Event, error) {
			data, stat, event, err := lib.GetW(p)
			return read[[]byte]{data, toStat(stat)}, event, err
		})
	return r.value, r.stat, err
}

func watched[T any](ctx context.Context, c *Conn, w watch,
	plain func(*zk.Conn, string) (read[T], error), watching func(*zk.Conn, string) (read[T], <-chan zk.Event, error),
) (read[T], error) {
	const attempts = 10 // each finds the node gone, and then there
	for range attempts {
		r, err := call(ctx, c, "watch", w.path, true, func(lib *zk.Conn, _ int) (read[T], error) {
			if c.isSet(w) {
				return plain(lib, c.full(w.path))
			}
			r, event, err := watching(lib, c.full(w.path))
			if err == nil {
				c.follow(w, event)
			}
			return r, err
		})
		if !errors.Is(err, ErrNoNode) {
			return r, err
		}
		if there, existsErr := c.watchExists(ctx, w.path, w.wake); existsErr != nil {
			return r, existsErr
		} else if !there {
			return r, err
		}
	}
	notify(w.wake) // somebody makes and removes it without pause
	return read[T]{}, ErrNoNode
}

// watchExists sets a watch for the creation of path, unless it is there.
func (c *Conn) watchExists(ctx context.Context, path string, wake chan<- struct{}) (bool, error) {
	w := watch{path, watchExists, wake}
	return call(ctx, c, "watch", path, true, func(lib *zk.Conn, _ int) (bool, error) {
		if c.isSet(w) {
			there, _, err := lib.Exists(c.full(path))
			return there, err
		}
		there, _, event, err := lib.ExistsW(c.full(path))
		if err == nil && !there {
			c.follow(w, event)
		}
		return there, err
	})
}
