package haproxy

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Exited returns a channel that is closed once process pid has ended, whoever its
// parent is, or ctx has.
func Exited(ctx context.Context, pid int) <-chan struct{} {
	return exitedBy(ctx, pid, func(pid int) (fd int, err error) { return unix.PidfdOpen(pid, 0) })
}

func exitedBy(ctx context.Context, pid int, open func(pid int) (fd int, err error)) <-chan struct{} {
	fd, err := open(pid)
	if err != nil {
		// ESRCH: it has ended already. Anything else, such as a kernel or a sandbox
		// without the call, or no file left, says nothing about the process.
		return exitedByPoll(ctx, pid)
	}
	gone := make(chan struct{})
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
