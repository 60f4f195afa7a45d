package plug

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func newDriver(o Options) (driver, error) { return newDriverNamed(o, tableName, ifbName) }

// newDriverNamed is newDriver with the names of what it makes in the kernel.
func newDriverNamed(o Options, table, ifb string) (driver, error) {
	switch o.Protect {
	case Qdisc:
		return newQdisc(o, table, ifb, linux{}), nil
	case NFQueue:
		return newNFQueue(o, table), nil
	}
	return nil, fmt.Errorf("there is no method called %q", o.Protect)
}

// Probe says whether this kernel can hold by the given method: nil, or an
// UnsupportedError. It does all of it for real, set-up, hold and release, in a
// network namespace that vanishes afterwards; without the right to make one, in
// place and under other names.
func Probe(method Method) error {
	return inScratchNamespace(func() error { return probe(method) })
}

// inScratchNamespace runs do in a network namespace of its own, which ends with
// the thread that it was made by; or, without the right to make one, where we
// are.
func inScratchNamespace(do func() error) error {
	done := make(chan error)
	scratch := func() {
		// Without an unlock the thread ends with this goroutine, and the
		// namespace with the thread.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err == nil {
			if err := LoopbackUp(); err != nil {
				done <- err
				return
			}
		}
		done <- do()
	}
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			scratch()
			return
		}
		// The main thread never ends, and the process's /proc/self/net is its:
		// it stays out of this. While it is locked here, the other goroutine
		// gets another thread.
		defer runtime.UnlockOSThread()
		finished := make(chan struct{})
		go func() { defer close(finished); scratch() }()
		<-finished
	}()
	return <-done
}

func probe(method Method) (err error) {
	o := Options{Protect: method, Queue: 20258}.withDefaults()
	m, err := newDriverNamed(o, tableName+"_probe", ifbName+"p")
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
