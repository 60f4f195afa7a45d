package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
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
	n := &ephemeral{dir: dir, entry: e}
	wake := make(chan struct{}, 1)
	z.conn.Sessions(ctx, wake)
	z.kept.add(n.key())
	defer z.withdraw(n)
	pause, said := firstPause, "nothing yet"
	for {
		wait := lookEvery - rand.N(lookEvery/5) // each at its own time: a host may have hundreds
		if err := z.keep(ctx, n, wake); err == nil {
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

// An ephemeral is a node that somebody keeps.
type ephemeral struct {
	dir     string
	entry   Entry
	path    string // in this session; "" while there was none
	session int64
}

// key is what equal entries have in common.
func (n *ephemeral) key() string { return path.Join(n.dir, namePrefix(n.entry)) }

// keep makes the node if it is not there or another session's, and watches it.
func (z *ZooKeeper) keep(ctx context.Context, n *ephemeral, wake chan<- struct{}) error {
	if err := z.place(ctx, n); err != nil {
		return err
	}
	_, stat, err := z.conn.WatchData(ctx, n.path, wake)
	if err == nil && stat.EphemeralOwner == n.session {
		return nil
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	return z.conn.CreateEphemeral(ctx, n.path, data(n.entry))
}

// place finds the path of the node in this session: that of an equal entry which
// is there already, kept by this process or by one before it, or one after all
// others, since who comes back after a lost session is the last in line.
func (z *ZooKeeper) place(ctx context.Context, n *ephemeral) error {
	if n.path != "" && n.session == z.conn.SessionID() {
		return nil
	}
	names, _, err := z.conn.Children(ctx, n.dir)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	session := z.conn.SessionID()
	if session == 0 {
		return errNoSession
	}
	owners, err := z.owners(ctx, n, names)
	if err != nil {
		return err
	}
	n.path, n.session = path.Join(n.dir, NodeName(n.entry, after(names))), session
	for p, owner := range owners {
		switch owner {
		case session:
			n.path = p
			return nil
		case 0: // somebody else's, to stay
		default:
			n.path = p
		}
	}
	return nil
}

// owners returns the nodes of an entry among names, and the session of each.
func (z *ZooKeeper) owners(ctx context.Context, n *ephemeral, names []string) (map[string]int64, error) {
	owners := map[string]int64{}
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, namePrefix(n.entry)); !ok || strings.Trim(rest, "0123456789") != "" {
			continue
		}
		p := path.Join(n.dir, name)
		_, stat, err := z.conn.Get(ctx, p)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return nil, err
		}
		if err == nil {
			owners[p] = stat.EphemeralOwner
		}
	}
	return owners, nil
}

// withdraw takes the node out, unless the same is kept by somebody else as well.
// It tries until it has, or the connection is closed: a session that outlives an
// outage keeps the node of a service that is gone.
func (z *ZooKeeper) withdraw(n *ephemeral) {
	z.kept.drop(n.key())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	back := make(chan struct{}, 1)
	z.conn.Sessions(ctx, back)
	for pause := firstPause; !z.kept.has(n.key()); pause = min(2*pause, longestPause) {
		if err := z.remove(ctx, n); err == nil || errors.Is(err, zk.ErrClosed) {
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

// remove deletes every node of the entry that is of this session; another
// session's goes with that one.
func (z *ZooKeeper) remove(ctx context.Context, n *ephemeral) error {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	names, _, err := z.conn.Children(ctx, n.dir)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	owners, err := z.owners(ctx, n, names)
	if err != nil {
		return err
	}
	session := z.conn.SessionID()
	if session == 0 {
		return errNoSession
	}
	for p, owner := range owners {
		if owner != session {
			continue
		}
		if err := z.conn.Delete(ctx, p, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	return nil
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
