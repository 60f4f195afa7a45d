package haproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listeners are the listening TCP sockets of a HAProxy, held a second time. When
// it dies, connections wait in their queues instead of being refused, and the
// next process takes them over. The zero value holds none.
//
// What is spoken here is what HAProxy itself speaks for "-x": to "_getsocks" it
// answers with the number of its sockets, and then with messages of up to 252
// descriptors, each of which wants to be answered.
type Listeners struct {
	mu      sync.Mutex
	sockets []listener
}

type listener struct {
	fd     int
	record []byte // namespace, interface and options as HAProxy sent them
}

const (
	socketsAtOnce = 252
	mostSockets   = 1 << 17
	// recordSize is the most that comes with one socket.
	recordSize = 1 + 255 + 1 + 255 + 4
)

// Take holds the listeners of process pid behind the runtime API at socket, and
// lets go of what it held. When it fails, nothing changes.
func (l *Listeners) Take(ctx context.Context, socket string, pid int) error {
	held, err := listenersOf(ctx, socket, pid)
	if err != nil {
		closeAll(held)
		return fmt.Errorf("take over the listeners of HAProxy %d: %w", pid, err)
	}
	l.mu.Lock()
	old := l.sockets
	l.sockets = held
	l.mu.Unlock()
	closeAll(old)
	return nil
}

// Drop lets go of all: from then on, without a HAProxy, connections are refused.
func (l *Listeners) Drop() {
	l.mu.Lock()
	old := l.sockets
	l.sockets = nil
	l.mu.Unlock()
	closeAll(old)
}

// Len is how many are held.
func (l *Listeners) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sockets)
}

func closeAll(ls []listener) {
	for _, x := range ls {
		unix.Close(x.fd)
	}
}

func listenersOf(ctx context.Context, socket string, pid int) ([]listener, error) {
	c, err := (&Runtime{Socket: socket}).connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	// On one connection one process answers, so this tells whose sockets come.
	if err := c.once(ctx, pid, nil, nil); err != nil {
		return nil, err
	}
	conn := c.conn.(*net.UnixConn)
	if err := conn.SetDeadline(time.Now().Add(c.runtime.timeout())); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "_getsocks\n"); err != nil {
		return nil, err
	}
	var number [4]byte
	if _, err := io.ReadFull(conn, number[:]); err != nil {
		return nil, err
	}
	n := int(binary.NativeEndian.Uint32(number[:]))
	if n < 0 || n > mostSockets {
		return nil, fmt.Errorf("it says that it has %d sockets", n)
	}
	var all []listener
	records := make([]byte, 0, n*6)
	buf, oob := make([]byte, socketsAtOnce*recordSize), make([]byte, unix.CmsgSpace(4*socketsAtOnce))
	for len(all) < n {
		size, oobSize, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err == nil && size == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return all, err
		}
		records = append(records, buf[:size]...)
		messages, err := unix.ParseSocketControlMessage(oob[:oobSize])
		if err != nil {
			return all, err
		}
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				return all, err
			}
			for _, fd := range fds {
				all = append(all, listener{fd: fd})
			}
		}
		binary.NativeEndian.PutUint32(number[:], uint32(len(all)))
		// For an answer to the last one HAProxy does not wait.
		if _, err := conn.Write(number[:]); err != nil && len(all) < n {
			return all, err
		}
	}
	var tcp []listener
	for i := range all {
		record, rest, ok := cutRecord(records)
		if !ok {
			return append(tcp, all[i:]...), errors.New("what came with the sockets ended early")
		}
		records = rest
		if !isTCP(all[i].fd) {
			// The runtime API's: whoever connects there wants a HAProxy now or none.
			unix.Close(all[i].fd)
			continue
		}
		all[i].record = append([]byte(nil), record...)
		tcp = append(tcp, all[i])
	}
	return tcp, nil
}

// cutRecord cuts what belongs to one socket: a length and a namespace, a length
// and an interface, four bytes of options.
func cutRecord(b []byte) (record, rest []byte, ok bool) {
	at := 0
	for range 2 {
		if at >= len(b) {
			return nil, nil, false
		}
		at += 1 + int(b[at])
	}
	at += 4
	if at > len(b) {
		return nil, nil, false
	}
	return b[:at], b[at:], true
}

func isTCP(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && (domain == unix.AF_INET || domain == unix.AF_INET6)
}

// pass answers at a socket in dir, for a process that is started with "-x" and
// the path, until stop is called. The path is "" when nothing is held.
func (l *Listeners) pass(dir string) (path string, stop func(), err error) {
	l.mu.Lock()
	held := make([]listener, 0, len(l.sockets))
	for _, x := range l.sockets {
		// A descriptor of its own, so that Take or Drop meanwhile take none away.
		if fd, err := unix.FcntlInt(uintptr(x.fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			held = append(held, listener{fd, x.record})
		}
	}
	l.mu.Unlock()
	if len(held) == 0 {
		return "", func() {}, nil
	}
	path = filepath.Join(dir, "listeners.sock")
	if err := syscall.Unlink(path); err != nil && !errors.Is(err, syscall.ENOENT) {
		closeAll(held)
		return "", nil, fmt.Errorf("pass listeners on at %s: %w", path, err)
	}
	server, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		closeAll(held)
		return "", nil, fmt.Errorf("pass listeners on: %w", err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := server.AcceptUnix()
			if err != nil {
				return // stopped
			}
			_ = give(conn, held) // HAProxy says what it did not get
			conn.Close()
		}
	})
	return path, func() {
		server.Close() // removes the path
		wait.Wait()
		closeAll(held)
	}, nil
}

// give answers one process.
func give(conn *net.UnixConn, held []listener) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	request := make([]byte, len("_getsocks\n"))
	if _, err := io.ReadFull(conn, request); err != nil {
		return err
	}
	number := binary.NativeEndian.AppendUint32(nil, uint32(len(held)))
	if _, err := conn.Write(number); err != nil {
		return err
	}
	for len(held) > 0 {
		n := min(len(held), socketsAtOnce)
		var records []byte
		var fds []int
		for _, x := range held[:n] {
			records = append(records, x.record...)
			fds = append(fds, x.fd)
		}
		if _, _, err := conn.WriteMsgUnix(records, unix.UnixRights(fds...), nil); err != nil {
			return err
		}
		held = held[n:]
		if _, err := io.ReadFull(conn, number); err != nil && len(held) > 0 {
			return err
		}
	}
	return nil
}
