package haproxy

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Gone returns a channel that is closed once process pid has ended, whoever its
// parent is, or ctx has.
func Gone(ctx context.Context, pid int) <-chan struct{} {
	gone := make(chan struct{})
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil { // ESRCH: it has ended already
		close(gone)
		return gone
	}
	go func() {
		defer close(gone)
		defer unix.Close(fd)
		for ctx.Err() == nil {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 500)
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return gone
}
