package accesslog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// queue is how many datagrams the kernel may keep for us. Its own default is 10:
// at a burst a fifth of the lines would be lost.
const queue = 4096

// queueFile is the kernel's setting, for sockets that are made after it was
// changed, in this network namespace.
const queueFile = "/proc/sys/net/unix/max_dgram_qlen"

// A Socket receives datagrams. HAProxy does not wait for it: what the queue
// does not hold is lost, and counted by HAProxy (Info.DroppedLogs).
type Socket struct {
	conn *net.UnixConn
	path string
	// Queue is how many datagrams the kernel keeps. Where it may not be raised it
	// is small, and QueueErr says why. (What the sender may have under way, about
	// 250 lines, is a limit as well, and one that is HAProxy's.)
	Queue    int
	QueueErr error

	received atomic.Int64
}

// Listen makes the socket at path, in place of one that is there. HAProxy finds
// the new one: it opens the path anew for every datagram. Run closes it.
func Listen(path string) (*Socket, error) {
	s := &Socket{path: path}
	s.Queue, s.QueueErr = raiseQueue(queueFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("log socket: %w", err)
	}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
		return nil, fmt.Errorf("log socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("log socket: %w", err), s.conn.Close())
	}
	return s, nil
}

// raiseQueue sets the kernel's limit where it is lower and may be set.
func raiseQueue(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 10, fmt.Errorf("read net.unix.max_dgram_qlen: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 10, fmt.Errorf("read net.unix.max_dgram_qlen: %w", err)
	}
	if n >= queue {
		return n, nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(queue)), 0o644); err != nil {
		return n, fmt.Errorf("raise net.unix.max_dgram_qlen from %d to %d: %w", n, queue, err)
	}
	return queue, nil
}

// Received counts the datagrams that came.
func (s *Socket) Received() int64 { return s.received.Load() }

// Run gives every datagram to take until ctx ends, and then closes the socket.
// take must not keep it.
func (s *Socket) Run(ctx context.Context, take func([]byte)) error {
	defer context.AfterFunc(ctx, func() { _ = s.conn.Close() })()
	buf := make([]byte, MaxLength+64)
	for {
		n, err := s.conn.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("log socket: %w", errors.Join(err, s.conn.Close()))
		}
		s.received.Add(1)
		take(buf[:n])
	}
}
