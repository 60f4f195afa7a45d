package haproxy

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// exitedByPoll is Exited without a handle of the process.
func exitedByPoll(ctx context.Context, pid int) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return gone
}
