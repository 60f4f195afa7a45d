package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/zk"
)

const (
	// firstPause and longestPause are between two tries.
	firstPause, longestPause = 50 * time.Millisecond, 5 * time.Second
	// lookEvery is how often an entry is looked at whose watch says nothing.
	lookEvery = time.Minute
	// removeWithin bounds one try to take an entry out.
	removeWithin = time.Second
)

// Ephemeral keeps e registered with an ephemeral node until ctx ends, through
// lost sessions and whatever else removes the node, and then takes it out, however
// long ZooKeeper does not answer, and returns nil. Equal entries that are kept at
// once are one node, which goes with the last of them. changed is told nil whenever e has come to be there, and what
// goes wrong in between, once a change; it is tried again with back-off. Two
// nodes for one host:port are no harm for a moment, so to change an entry start
// the new one, and end the old once changed was told nil.
func (z *ZooKeeper) Ephemeral(ctx context.Context, registration string, e Entry, changed func(error)) error {
	dir, err := znode(registration)
	if err != nil {
		return err
	}
	if err := Check(e); err != nil {
		return fmt.Errorf("register %s: %w", registration, err)
	}
	p := path.Join(dir, NodeName(e))
	wake := make(chan struct{}, 1)
	z.conn.Sessions(ctx, wake)
	z.kept.add(p)
	defer z.withdraw(p)
	pause, said := firstPause, "nothing yet"
	for {
		wait := lookEvery - rand.N(lookEvery/5) // each at its own time: a host may have hundreds
		if err := z.keep(ctx, p, Encode(e), wake); err == nil {
			if said != "" {
				changed(nil)
			}
			pause, said = firstPause, ""
		} else if ctx.Err() == nil {
			wait, pause = pause, min(2*pause, longestPause)
			if text := err.Error(); text != said {
				changed(fmt.Errorf("register %s at %s:%d: %w", registration, e.Host, e.Port, err))
				said = text
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// keep makes the node if it is not there or another session's, and watches it.
func (z *ZooKeeper) keep(ctx context.Context, p string, text []byte, wake chan<- struct{}) error {
	_, stat, err := z.conn.WatchData(ctx, p, wake)
	if err == nil && stat.EphemeralOwner == z.conn.SessionID() {
		return nil
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	return z.conn.CreateEphemeral(ctx, p, text)
}

// withdraw takes the node out, unless the same is kept by somebody else as well.
// It tries until it has, or the connection is closed: a session that outlives an
// outage keeps the node of a service that is gone.
func (z *ZooKeeper) withdraw(p string) {
	z.kept.drop(p)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	back := make(chan struct{}, 1)
	z.conn.Sessions(ctx, back)
	for pause := firstPause; !z.kept.has(p); pause = min(2*pause, longestPause) {
		if err := z.remove(ctx, p); err == nil || errors.Is(err, zk.ErrClosed) {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-back:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// remove deletes the node if it is of this session.
func (z *ZooKeeper) remove(ctx context.Context, p string) error {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	_, stat, err := z.conn.Get(ctx, p)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	switch z.conn.SessionID() {
	case stat.EphemeralOwner:
		if err := z.conn.Delete(ctx, p, -1); !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	case 0:
		return errNoSession
	}
	return nil // another session's goes with that one
}

var errNoSession = errors.New("there is no session")

// kept counts who keeps which ephemeral node.
type kept struct {
	mu    sync.Mutex
	paths map[string]int
}

func (k *kept) add(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paths[path]++
}

func (k *kept) drop(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.paths[path]--; k.paths[path] == 0 {
		delete(k.paths, path)
	}
}

func (k *kept) has(path string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.paths[path] > 0
}
