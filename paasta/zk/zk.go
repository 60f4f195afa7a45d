// Package zk is a ZooKeeper session that knows contexts, expiry and
// leadership. It is the only user of github.com/go-zookeeper/zk.
//
// What it adds to that library: every call is bounded by its context; reads are
// repeated after a lost connection; a server that accepts connections and never
// answers is left for another one within a third of the session timeout; whoever
// watches is woken after every reconnect; parents are made when missing; and
// leadership ends before the session can have been given to somebody else.
package zk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// Errors that callers branch on; every other error is wrapped with operation
// and path.
var (
	ErrNoNode     = errors.New("no such znode")
	ErrNodeExists = errors.New("znode exists")
	ErrBadVersion = errors.New("znode has another version") // also: leadership was lost
	ErrForbidden  = errors.New("the znode's ACL forbids it")
	ErrClosed     = errors.New("the ZooKeeper connection was closed")
	// ErrUncertain: the connection went while a write was under way, and nobody
	// knows whether it was made.
	ErrUncertain = errors.New("connection lost, the write may have been made")
)

// Options say how to connect. Servers is required.
type Options struct {
	Servers string        // "h1:2181,h2:2181", also with "zk://" before and a path behind, which becomes the root
	Auth    string        // "user:password" for digest; what we create then carries ACLs (all for us, read for the world)
	Timeout time.Duration // session; default 10s
	Log     *slog.Logger  // default: discard
}

// A Stat is what ZooKeeper says about a znode.
type Stat struct {
	Version                 int32
	Czxid, Mzxid, Pzxid     int64
	EphemeralOwner          int64
	NumChildren, DataLength int32
	Mtime                   time.Time
}

// A Conn is one session at a time: when a session expires, a new one is made
// and Sessions tells about it. It never gives up and never panics; calls fail
// with their context's error when ZooKeeper does not answer in time. A call
// whose context has no deadline gets the session timeout as one. A write that
// failed because of time or connection may have been, or may still be, carried
// out: read again before you conclude anything.
type Conn struct {
	lib     *zk.Conn
	root    string // "" or "/path"; before every path
	acl     []zk.ACL
	auth    string
	timeout time.Duration // asked for
	log     *slog.Logger

	negotiated atomic.Int64 // session timeout in ms that the server granted
	conn       connState

	started chan struct{}   // closed once lib is set
	life    context.Context // ends with Close
	end     context.CancelFunc
	close   sync.Once
	gone    chan struct{} // closed once the library's goroutines have ended

	mu        sync.Mutex
	connected bool          // has a session on a live connection
	lost      bool          // and the log says so
	ready     bool          // connected, and credentials were sent once
	changed   chan struct{} // closed and replaced whenever ready or authed changes
	authed    bool
	wakes     map[chan<- struct{}]int // of Sessions, counted
	watches   map[watch]bool          // that are to fire
	following sync.WaitGroup
}

// Dial returns a Conn that connects in the background. It fails only for
// options that can never work.
func Dial(o Options) (*Conn, error) {
	servers, root, err := parseServers(o.Servers)
	if err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("ZooKeeper session timeout %v is negative", o.Timeout)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Conn{
		root:    root,
		acl:     zk.WorldACL(zk.PermAll),
		auth:    o.Auth,
		timeout: o.Timeout,
		log:     o.Log,
		started: make(chan struct{}),
		gone:    make(chan struct{}),
		changed: make(chan struct{}),
		authed:  o.Auth == "",
		wakes:   map[chan<- struct{}]int{},
		watches: map[watch]bool{},
	}
	c.life, c.end = context.WithCancel(context.Background())
	if o.Auth != "" {
		user, password, ok := strings.Cut(o.Auth, ":")
		if !ok || user == "" || password == "" {
			return nil, errors.New("ZooKeeper auth: want USER:PASSWORD")
		}
		c.acl = append(zk.DigestACL(zk.PermAll, user, password), zk.WorldACL(zk.PermRead)...)
	}
	lib, events, err := zk.Connect(servers, o.Timeout,
		zk.WithEventCallback(c.event),
		zk.WithHostProvider(&hosts{closed: c.life.Done()}),
		zk.WithDialer(c.dial),
		zk.WithLogger(libLog{o.Log}),
		zk.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("connect to ZooKeeper at %s: %w", o.Servers, err)
	}
	c.lib = lib
	close(c.started)
	go func() {
		defer close(c.gone)
		for range events { // the callback has seen them
		}
	}()
	return c, nil
}

// parseServers splits "zk://h1:2181,h2:2181/root".
func parseServers(s string) (servers []string, root string, err error) {
	list := strings.TrimPrefix(s, "zk://")
	if i := strings.Index(list, "/"); i >= 0 {
		list, root = list[:i], strings.TrimRight(list[i:], "/")
	}
	if i := strings.LastIndex(list, "@"); i >= 0 {
		return nil, "", errors.New("ZooKeeper servers: credentials belong into the auth setting, not into the address")
	}
	if s == "" {
		return nil, "", errors.New("no ZooKeeper is named: set zookeeper: HOST:PORT,… in a file below $PAASTA_SYSTEM_CONFIG_DIR (default /etc/paasta)")
	}
	for server := range strings.SplitSeq(list, ",") {
		if server = strings.TrimSpace(server); server != "" {
			servers = append(servers, server)
		}
	}
	if len(servers) == 0 {
		return nil, "", fmt.Errorf("ZooKeeper servers %q: want HOST:PORT,… as zookeeper in the system config", s)
	}
	return servers, root, nil
}

// Close ends the session at once, which removes its ephemeral nodes. When
// ZooKeeper does not answer it gives up after a second, and the nodes go when
// the session expires.
func (c *Conn) Close() {
	c.close.Do(func() {
		c.mu.Lock()
		c.end() // from here on nothing is followed
		c.mu.Unlock()
		c.lib.Close()
		c.conn.shutDown()
		<-c.gone
		c.following.Wait()
		c.mu.Lock()
		c.connected, c.ready = false, false
		c.broadcast()
		c.mu.Unlock()
	})
}

// Connected tells whether the session is alive now.
func (c *Conn) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

// Sessions makes c send on wake, without blocking, after every (re)connection
// and every new session, until ctx ends: read everything again, make ephemerals
// anew. It returns at once.
func (c *Conn) Sessions(ctx context.Context, wake chan<- struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakes[wake]++
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.wakes[wake]--; c.wakes[wake] == 0 {
			delete(c.wakes, wake)
		}
	})
}

// SessionID is 0 while there is none.
func (c *Conn) SessionID() int64 {
	if !c.Connected() {
		return 0
	}
	return c.lib.SessionID()
}

// SessionTimeout is what the server granted, or what was asked for while there
// has been no answer.
func (c *Conn) SessionTimeout() time.Duration {
	if ms := c.negotiated.Load(); ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return c.timeout
}

// event is the library's callback. It must not block, nor call the library,
// which may hold its locks.
func (c *Conn) event(e zk.Event) {
	if e.Type != zk.EventSession {
		return // a watch, which has its own channel
	}
	switch e.State {
	case zk.StateHasSession:
		c.conn.connected()
		c.mu.Lock()
		c.connected = true
		authed, back := c.authed, c.lost
		c.lost = false
		c.mu.Unlock()
		if back {
			c.log.Info("ZooKeeper connection is back", "server", e.Server)
		}
		if authed {
			c.becomeReady()
		} else {
			go c.authenticate()
		}
	case zk.StateDisconnected, zk.StateExpired:
		if e.State == zk.StateExpired {
			c.conn.expired()
		}
		c.conn.disconnected()
		c.mu.Lock()
		was := c.ready
		told := was || e.State == zk.StateExpired
		c.connected, c.ready, c.lost = false, false, c.lost || told
		c.broadcast()
		c.mu.Unlock()
		if told {
			c.log.Warn("ZooKeeper connection lost", "state", e.State.String(), "server", e.Server)
		}
	}
}

// authenticate sends the credentials on the first connection; on later ones the
// library does so before anything else.
func (c *Conn) authenticate() {
	<-c.started
	err := c.lib.AddAuth("digest", []byte(c.auth))
	if err != nil {
		return // the connection went; the next one tries again
	}
	c.mu.Lock()
	c.authed = true
	alive := c.connected
	c.mu.Unlock()
	if alive {
		c.becomeReady()
	}
}

func (c *Conn) becomeReady() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = true
	c.broadcast()
	for w := range c.watches {
		notify(w.wake)
	}
	for wake := range c.wakes {
		notify(wake)
	}
}

// broadcast wakes all who wait for a change of state. c.mu is held.
func (c *Conn) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns once calls can be made.
func (c *Conn) await(ctx context.Context) error {
	for {
		c.mu.Lock()
		ready, changed := c.ready, c.changed
		c.mu.Unlock()
		select {
		case <-c.life.Done():
			return ErrClosed
		default:
		}
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			if last := c.conn.lastError(); last != nil {
				return fmt.Errorf("no ZooKeeper session (%w): %w", last, ctx.Err())
			}
			return fmt.Errorf("no ZooKeeper session: %w", ctx.Err())
		case <-changed:
		case <-c.life.Done():
		}
	}
}

// libLog passes the library's lines on as debug messages; what matters of them
// is reported by errors.
type libLog struct{ log *slog.Logger }

func (l libLog) Printf(format string, args ...any) {
	l.log.Debug("zookeeper client", "line", fmt.Sprintf(format, args...))
}
