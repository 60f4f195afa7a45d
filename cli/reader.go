package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/command"
)

// errNobodyReads is the end of what follows into a pipe when its reader is
// gone: the exit code is that of a process that SIGPIPE ended.
var errNobodyReads error = command.ExitError{Code: 128 + int(unix.SIGPIPE)}

// whileRead returns a context that ends, with errNobodyReads as its cause, when
// out is a pipe and nobody reads it any more: "logs -f | grep -m1 ready" must
// not wait for a next line to notice. The caller calls cancel.
func whileRead(ctx context.Context, out io.Writer) (_ context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	cancel = func() { end(nil) }
	f, ok := out.(*os.File)
	if !ok {
		return ctx, cancel
	}
	fd := int32(f.Fd())
	go func() {
		for ctx.Err() == nil {
			polled := []unix.PollFd{{Fd: fd}} // errors are told without being asked for
			switch _, err := unix.Poll(polled, 500); {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				time.Sleep(500 * time.Millisecond) // the next write will tell
			case polled[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
				end(errNobodyReads)
			}
		}
	}()
	return ctx, cancel
}
