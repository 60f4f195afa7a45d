//go:build linux

package playground

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const namespaces = "/run/netns"

// A Namespace is a network namespace that connections are made in.
type Namespace struct {
	there, home *os.File
}

// Enter opens the playground's network namespace for dialing.
func (p *Playground) Enter() (*Namespace, error) {
	there, err := os.Open(filepath.Join(namespaces, p.Name))
	if err != nil {
		return nil, fmt.Errorf("network namespace of %s: %w", p.Dir, err)
	}
	home, err := os.Open("/proc/self/ns/net")
	if err != nil {
		there.Close()
		return nil, err
	}
	return &Namespace{there, home}, nil
}

// Close lets go of the namespace; connections stay.
func (n *Namespace) Close() error { return errors.Join(n.there.Close(), n.home.Close()) }

// DialContext dials a literal address from inside the namespace. Only the
// thread that makes the socket goes there, and it comes back; one that cannot
// come back is given up.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(n.there.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- result{err: fmt.Errorf("enter the network namespace: %w", err)}
			return
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if unix.Setns(int(n.home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// namespaceID returns the inode of the playground's namespace, 0 when it is not there.
func (p *Playground) namespaceID() uint64 {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(namespaces, p.Name), &st) != nil {
		return 0
	}
	return st.Ino
}

// Inside tells whether this process is in the playground's namespace.
func (p *Playground) Inside() bool {
	id := p.namespaceID()
	return id != 0 && id == namespaceOf(os.Getpid())
}

// namespaceOf returns the inode of a process's network namespace, 0 when the
// process is gone.
func namespaceOf(pid int) uint64 {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) != nil {
		return 0
	}
	return st.Ino
}
