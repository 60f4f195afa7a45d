package accesslog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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
	fd   int
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
	if s.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("log socket: %w", err)
	}
	if err = unix.Bind(s.fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("log socket %s: %w", path, err), unix.Close(s.fd))
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

const (
	// nap is how long lines gather while many come.
	nap = time.Millisecond
	// idle is how long Run waits before it looks whether it should end.
	idle = 200 * time.Millisecond
	// urgency is the nice value of the thread that reads, where it may be set: it
	// uses little, but what it does not take within some milliseconds is lost.
	urgency = -15
)

// Run gives every datagram to take until ctx ends, and then closes the socket.
// take must not keep it.
func (s *Socket) Run(ctx context.Context, take func([]byte)) error {
	// A thread of its own, which waits in the kernel: the runtime's poller would
	// have to be scheduled first. It is not unlocked, so it ends with us.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), urgency) // as good as it gets
	defer unix.Close(s.fd)
	buf := make([]byte, MaxLength+64)
	var woken time.Time
	for ctx.Err() == nil {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(idle/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("log socket %s: %w", s.path, err)
		}
		if err := s.drain(ctx, buf, take); err != nil {
			return fmt.Errorf("log socket %s: %w", s.path, err)
		}
		// Waking up costs more than a line does. While many come, some are let
		// gather; the kernel keeps hundreds.
		if now := time.Now(); now.Sub(woken) < 2*nap {
			pause := unix.NsecToTimespec(int64(nap))
			_ = unix.Nanosleep(&pause, nil) // a shorter one does no harm
		}
		woken = time.Now()
	}
	return nil
}

// drain takes everything that waits.
func (s *Socket) drain(ctx context.Context, buf []byte, take func([]byte)) error {
	for ctx.Err() == nil {
		n, err := unix.Read(s.fd, buf) // which does not block
		switch {
		case err == nil:
			s.received.Add(1)
			take(buf[:n])
		case errors.Is(err, unix.EAGAIN):
			return nil
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}
