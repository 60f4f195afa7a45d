package haproxy

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// goneByPoll is Gone without a handle of the process.
func goneByPoll(ctx context.Context, pid int) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return gone
}
