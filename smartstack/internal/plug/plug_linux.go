package plug

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func newMethod(o Options) (method, error) { return methodNamed(o, tableName, ifbName) }

// methodNamed is newMethod with the names of what it makes in the kernel.
func methodNamed(o Options, table, ifb string) (method, error) {
	switch o.Protect {
	case Qdisc:
		return newQdisc(o, table, ifb, linux{}), nil
	case NFQueue:
		return newNFQueue(o, table), nil
	}
	return nil, fmt.Errorf("there is no way to protect called %q", o.Protect)
}

// Probe says whether this kernel can hold by the given way: nil, or an
// UnsupportedError. It does all of it for real, set-up, hold and release, in a
// network namespace that vanishes afterwards; without the right to make one, in
// place and under other names.
func Probe(way Protect) error {
	done := make(chan error)
	go func() {
		// The thread ends with this goroutine, since it is not unlocked, and the
		// namespace with the thread.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = LoopbackUp()
		}
		_ = err // in place, then
		done <- probe(way)
	}()
	return <-done
}

func probe(way Protect) (err error) {
	o := Options{Protect: way, Queue: 20258}.withDefaults()
	m, err := methodNamed(o, tableName+"_probe", ifbName+"p")
	if err != nil {
		return err
	}
	if err := m.setup(); err != nil {
		return err
	}
	err = m.hold(selected)
	if _, err2 := m.release(); err == nil {
		err = err2
	}
	if err2 := m.close(); err == nil {
		err = err2
	}
	if err2 := m.clear(); err == nil {
		err = err2
	}
	return err
}

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
