// Package resolver knows the addresses of hosts that registry entries give by
// name. It looks names up in the background, again and again, and answers from
// what it knows, so that who asks never waits for DNS. It does not know what an
// entry is; the agent is its only user.
package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// every is how often a name is looked up again by default.
	every = 30 * time.Second
	// firstRetry is the pause after a look-up that failed; it doubles up to Every.
	firstRetry = time.Second
	// lookupWithin bounds one look-up.
	lookupWithin = 5 * time.Second
	// atOnce bounds the look-ups that are under way.
	atOnce = 16
	// most bounds the names: they come from a registry that many may write to.
	most = 4096
)

// ErrPending says that a name has not been looked up yet.
var ErrPending = errors.New("is being looked up")

var errTooMany = fmt.Errorf("is one of more than %d names, and not looked up", most)

// A Cache answers with the last good address of a name. Its methods may be called by
// several goroutines; its fields are set before.
type Cache struct {
	// Resolve looks a name up; nil for the resolver of this host, which reads
	// /etc/hosts and asks DNS.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Every is how often a name is looked up again, give or take a tenth. Default
	// 30s.
	Every   time.Duration
	Changed func() // called when Lookup answers differently; must not block; nil for nobody
	Log     *slog.Logger

	once   sync.Once
	kick   chan struct{} // there are new names
	mu     sync.Mutex
	hosts  map[string]*host
	wanted map[any][]string
	news   chan struct{} // closed and made anew with each answer
}

// host is what the cache knows of one name.
type host struct {
	wanted   int        // by how many
	addr     netip.Addr // the last good one
	at       time.Time  // when that was confirmed last
	err      error      // why not since; ErrPending before the first look-up
	failures int        // in a row
	due      time.Time  // next look-up
	busy     bool       // one is under way
}

// An Answer is what is known of a name.
type Answer struct {
	Addr netip.Addr // invalid when there has never been one
	At   time.Time  // when it was looked up last with success; zero for in an earlier life
	Err  error      // why the last look-up failed; nil when it did not
}

func (c *Cache) init() {
	c.once.Do(func() {
		c.kick = make(chan struct{}, 1)
		c.news = make(chan struct{})
		c.hosts, c.wanted = map[string]*host{}, map[any][]string{}
		if c.Resolve == nil {
			c.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
				return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
			}
		}
		c.Every = cmp.Or(c.Every, every)
		if c.Changed == nil {
			c.Changed = func() {}
		}
	})
}

// Want says which names an owner needs from now on, instead of those that it
// named before. A name that nobody needs any more is forgotten some time later.
func (c *Cache) Want(owner any, names []string) {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Equal(c.wanted[owner], names) {
		return
	}
	for _, name := range c.wanted[owner] {
		if h := c.hosts[name]; h != nil {
			h.wanted--
		}
	}
	delete(c.wanted, owner)
	if len(names) == 0 {
		return
	}
	c.wanted[owner] = slices.Clone(names)
	for _, name := range names {
		h := c.hosts[name]
		if h == nil {
			if len(c.hosts) >= most {
				continue
			}
			h = &host{err: ErrPending}
			c.hosts[name] = h
		}
		h.wanted++
		if h.at.IsZero() && h.failures == 0 {
			h.due = time.Time{}
		}
	}
	c.wake()
}

// wake lets Run look for what is due.
func (c *Cache) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Seed tells the cache an address that a name had in an earlier life: it is the
// answer until there is a better one.
func (c *Cache) Seed(name string, addr netip.Addr) {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts[name] == nil && len(c.hosts) < most {
		c.hosts[name] = &host{addr: addr, due: time.Now().Add(c.Every)} // sooner when somebody wants it
		c.wake()
	}
}

// Lookup returns the address of a name that somebody wants, from memory. The
// last good one stands while look-ups fail. The error wraps ErrPending when the
// name was not looked up yet.
func (c *Cache) Lookup(name string) (netip.Addr, error) {
	a := c.Answer(name)
	if a.Addr.IsValid() {
		return a.Addr, nil
	}
	return a.Addr, a.Err
}

// Answer returns all that is known of a name.
func (c *Cache) Answer(name string) Answer {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	switch {
	case h != nil:
		return Answer{h.addr, h.at, h.err}
	case len(c.hosts) >= most:
		return Answer{Err: errTooMany}
	}
	return Answer{Err: ErrPending}
}

// Await waits until none of the names is pending, or ctx ends.
func (c *Cache) Await(ctx context.Context, names []string) {
	for {
		c.init()
		c.mu.Lock()
		news := c.news
		c.mu.Unlock()
		if !slices.ContainsFunc(names, func(name string) bool {
			_, err := c.Lookup(name)
			return errors.Is(err, ErrPending)
		}) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-news:
		}
	}
}

// Run looks names up when they are due, until ctx ends. It returns nil.
func (c *Cache) Run(ctx context.Context) error {
	c.init()
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, atOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
		case <-timer.C:
		}
		due, left := c.due(time.Now())
		for _, name := range due {
			select {
			case <-ctx.Done():
				return nil
			case slots <- struct{}{}:
			}
			workers.Go(func() {
				defer func() { <-slots }()
				c.lookUp(ctx, name)
			})
		}
		if left {
			timer.Reset(min(c.Every/10, time.Second))
		}
	}
}

// due returns the names to look up now and marks them busy. It forgets those
// that nobody wants, and says whether any is left.
func (c *Cache) due(now time.Time) (due []string, left bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, h := range c.hosts {
		switch {
		case h.busy || h.due.After(now):
		case h.wanted == 0:
			delete(c.hosts, name)
		default:
			h.busy = true
			due = append(due, name)
		}
	}
	return due, len(c.hosts) > 0
}

// lookUp looks a name up once and notes what came of it.
func (c *Cache) lookUp(ctx context.Context, name string) {
	within, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	addrs, err := c.Resolve(within, name)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	h := c.hosts[name]
	old := *h
	addr, ok := pick(addrs, old.addr)
	h.busy = false
	switch {
	case err == nil && !ok:
		err = fmt.Errorf("look up %s: %d addresses, none of them of a host", name, len(addrs))
		fallthrough
	case err != nil:
		pause := min(firstRetry<<min(h.failures, 10), c.Every)
		h.err, h.failures, h.due = err, h.failures+1, time.Now().Add(pause)
	default:
		h.addr, h.at, h.err, h.failures = addr, time.Now(), nil, 0
		h.due = h.at.Add(c.Every - c.Every/10 + rand.N(c.Every/5))
	}
	// How it fails is not news: the words of a resolver differ each time.
	changed := h.addr != old.addr || !h.addr.IsValid() && old.failures == 0
	now := *h
	close(c.news)
	c.news = make(chan struct{})
	c.mu.Unlock()

	switch {
	case now.err != nil && old.failures == 0:
		c.Log.Warn("look up a host of the registry failed", "host", name, "err", now.err, "kept", now.addr, "retry_in", time.Until(now.due))
	case now.err == nil && (old.addr != now.addr || old.failures > 0):
		c.Log.Info("a host of the registry has another address", "host", name, "addr", now.addr, "before", old.addr)
	}
	if changed {
		c.Changed()
	}
}

// pick returns the address to use: the one that is in use if the name still
// has it, since DNS gives the same ones in another order each time, or else the
// lowest, those of IPv4 first.
func pick(addrs []netip.Addr, old netip.Addr) (best netip.Addr, ok bool) {
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case !usable(a):
		case a == old:
			return a, true
		case !best.IsValid() || cmp.Or(cmp.Compare(a.BitLen(), best.BitLen()), a.Compare(best)) < 0:
			best = a
		}
	}
	return best, best.IsValid()
}

// usable tells whether a server can be at an address.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}
