package zk

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// connState is what c knows of the TCP connections below its session.
type connState struct {
	mu        sync.Mutex
	conn      net.Conn
	since     time.Time // of the current or last session on a connection; zero when it was judged
	had       bool      // a session, that a server has not called expired yet
	failures  int       // dials since the last connection that lasted
	lost      time.Time // when the latest session lost its connection; zero while it has one
	refused   int       // connections since then that a server took, and gave no session
	resetting bool      // what the session has seen, as the log says
	err       error     // of the last dial or handshake
	shut      bool
}

// stableAfter is how long a connection must have lasted for the next dial to be made
// without a pause.
const stableAfter = time.Second

func (l *connState) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.had, l.err = time.Now(), true, nil
	l.lost, l.refused, l.resetting = time.Time{}, 0, false
}

func (l *connState) disconnected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.had && l.lost.IsZero() {
		l.lost = time.Now()
	}
}

// refuse notes that a server took a connection and ended it without a session.
func (l *connState) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
	l.err = err
}

// refusalsToReset refusals are no coincidence: a server that starts refuses, too.
const refusalsToReset = 3

// resetsZxid tells whether to hide from the server what the session has seen, and
// whether that begins now. A server that has seen less closes the connection,
// since another one may have seen more; so does one that has lost its data or was
// restored from an older backup, for ever. Once a session has had no connection
// for its timeout, nobody keeps it for us, and there is nothing left to protect.
func (l *connState) resetsZxid(timeout time.Duration) (reset, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reset = l.refused >= refusalsToReset && !l.lost.IsZero() && time.Since(l.lost) >= timeout
	first = reset && !l.resetting
	l.resetting = l.resetting || reset
	return reset, first
}

// expired says that a server has answered that the session is over. It is there,
// so the next dial, for a new session, need not wait.
func (l *connState) expired() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.had {
		l.had, l.failures = false, 0
	}
}

func (l *connState) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// shutDown closes the current connection and lets no other one be.
func (l *connState) shutDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	if l.conn != nil {
		l.conn.Close()
	}
}

// maxDialPause is the longest time between two dials. What ZooKeeper says after
// an outage is known that much later.
const maxDialPause = 300 * time.Millisecond

// pause says how long to wait before the next dial: nothing for the first of a
// round over all servers, then growing to maxDialPause.
func (l *connState) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.since.IsZero() && time.Since(l.since) > stableAfter {
		l.failures = 0
	}
	l.since = time.Time{}
	n := l.failures
	l.failures++
	if n == 0 {
		return 0
	}
	d := min(10*time.Millisecond<<min(n, 10), maxDialPause)
	return d/2 + rand.N(d/2)
}

// ackTimeout is how long a connection lasts whose packets the other side does not
// acknowledge. The kernel sends them again after ever longer pauses, at both
// ends: once a partition is over, what happened meanwhile would arrive as late
// again as the partition was long. A connection that is made anew has it at
// once, and the session goes on. A server that is slow, or frozen, acknowledges.
const ackTimeout = 2 * time.Second

// dialTimeout is how long a connection may take. The kernel repeats a SYN that was
// lost after 1, 3 and 7 seconds, so after a partition a new one is sooner heard.
const dialTimeout = time.Second

// dial makes a connection for the library. It waits between attempts, so that
// a ZooKeeper that is down is not hammered, and resolves names every time.
func (c *Conn) dial(network, address string, _ time.Duration) (net.Conn, error) {
	timer := time.NewTimer(c.conn.pause())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.life.Done():
		return nil, net.ErrClosed
	}
	// A third of the timeout for the handshake leaves time to try another server
	// before the session expires.
	patience := max(c.timeout/3, time.Second)
	dialer := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}}
	conn, err := dialer.DialContext(c.life, network, address)
	if err == nil {
		setUserTimeout(conn, ackTimeout)
	}
	l := &c.conn
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.err = err
		return nil, err
	}
	if l.shut {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conn = &handshakeConn{Conn: conn, address: address, buffered: bufio.NewReaderSize(conn, 4096), c: c, patience: patience}
	return l.conn, nil
}

// A handshakeConn is a connection that bounds the handshake, which the library gives
// more than six session timeouts, and notes the session timeout in its answer.
// The library reads from one goroutine at a time, and writes from one.
type handshakeConn struct {
	net.Conn
	address  string
	asked    bool          // the connect request was written
	buffered *bufio.Reader // the library reads a packet's length, and then the rest
	c        *Conn
	patience time.Duration
	head     []byte // the first bytes of the answer
	read     int
	done     bool
}

// The answer to a connect request: length, protocol version, timeout in ms,
// session id, … as big-endian integers.
const headLen = 12

// A connect request: length, protocol version, the last transaction that the
// session has seen, …
const (
	seenAt  = 8
	seenEnd = 16
)

// Write writes the connect request first, which the library does in one call.
func (l *handshakeConn) Write(p []byte) (int, error) {
	if l.asked || len(p) < seenEnd {
		return l.Conn.Write(p)
	}
	l.asked = true
	if reset, first := l.c.conn.resetsZxid(l.c.SessionTimeout()); reset {
		if first {
			l.c.log.Warn("ZooKeeper refuses the session: it has lost data or was restored from an older backup, or has no quorum; asking for a session as if nothing had been read before", "server", l.address)
		}
		p = slices.Clone(p)
		clear(p[seenAt:seenEnd])
	}
	return l.Conn.Write(p)
}

func (l *handshakeConn) Read(p []byte) (int, error) {
	n, err := l.buffered.Read(p)
	if l.done {
		return n, err
	}
	if err != nil {
		l.c.conn.refuse(fmt.Errorf("%s took the connection and gave no session (no quorum, or it has lost data): %w", l.address, err))
		return n, err
	}
	l.read += n
	l.head = append(l.head, p[:min(n, headLen-len(l.head))]...)
	if len(l.head) < headLen {
		return n, err
	}
	if l.read >= 4+int(binary.BigEndian.Uint32(l.head)) {
		l.done = true
		l.c.negotiated.Store(int64(binary.BigEndian.Uint32(l.head[8:])))
	}
	return n, err
}

func (l *handshakeConn) SetReadDeadline(t time.Time) error {
	if limit := time.Now().Add(l.patience); !l.done && (t.IsZero() || t.After(limit)) {
		t = limit
	}
	return l.Conn.SetReadDeadline(t)
}

// hosts hands out the servers in turn. It never asks the library to pause,
// since dial does, but when the Conn is closed: only in that pause the library
// looks whether it should end.
type hosts struct {
	mu      sync.Mutex
	servers []string
	next    int
	closed  <-chan struct{}
}

func (h *hosts) Init(servers []string) error {
	h.servers = servers
	return nil
}

func (h *hosts) Len() int { return len(h.servers) }

func (h *hosts) Next() (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	server := h.servers[h.next%len(h.servers)]
	h.next++
	select {
	case <-h.closed:
		return server, true
	default:
		return server, false
	}
}

func (h *hosts) Connected() {}
