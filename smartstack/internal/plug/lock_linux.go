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

// lockFile returns the lock of this network namespace: a plug belongs to a
// namespace, not to a machine.
func lockFile() (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("find the network namespace: %w", err)
	}
	dir := "/run/lock"
	if _, err := os.Stat(dir); err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, fmt.Sprintf("paasta-plug-%d.lock", st.Ino)), nil
}

// lock waits, as long as ctx lasts, until no other process has the plug. The
// kernel drops the lock when its holder dies.
func lock(ctx context.Context, why string) (func() error, error) {
	path, err := lockFile()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the plug: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			who, _ := os.ReadFile(path) // only for the message
			f.Close()
			return nil, fmt.Errorf("%w: %s (%s)", ErrLocked, strings.TrimSpace(string(who)), path)
		case <-time.After(5 * time.Millisecond):
		}
	}
	// Who has it is for people; the lock itself does not depend on it.
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendf(nil, "process %d: %s\n", os.Getpid(), why), 0)
	return f.Close, nil
}
