package plug

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockDir belongs to root, or to the user of the agent (systemd's
// RuntimeDirectory=paasta makes it so): who may write there can keep everybody
// from reloading.
const lockDir = "/run/paasta"

// openLock opens the lock of this network namespace: a plug belongs to a
// namespace, not to a machine.
func openLock() (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil, fmt.Errorf("find the network namespace: %w", err)
	}
	err := os.MkdirAll(lockDir, 0o755)
	if err == nil {
		var f *os.File
		f, err = os.OpenFile(filepath.Join(lockDir, fmt.Sprintf("plug-%d.lock", st.Ino)), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			return f, nil
		}
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, &UnsupportedError{Auto, fmt.Sprintf("lock the plug: %v", err), "run it as root (sudo paasta smartstack plug …), or let its user write to " + lockDir}
	}
	return nil, fmt.Errorf("lock the plug: %w", err)
}

// lock waits, as long as ctx lasts, until no other process has the plug. The
// kernel drops the lock when its holder dies.
func lock(ctx context.Context, why string) (func() error, error) {
	f, err := openLock()
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			who, _ := os.ReadFile(f.Name()) // only for the message
			_ = f.Close()
			return nil, fmt.Errorf("%w: %s (%s)", ErrLocked, strings.TrimSpace(string(who)), f.Name())
		case <-time.After(5 * time.Millisecond):
		}
	}
	// Who has it is for people; the lock itself does not depend on it.
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendf(nil, "process %d: %s\n", os.Getpid(), why), 0)
	return f.Close, nil
}
