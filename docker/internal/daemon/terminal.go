package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// RawTerminal hands a terminal over to a container: what is typed goes on as it is, and resize is
// called with its size, now and when it changes, until ctx ends. restore gives
// the terminal back and may be called twice. What is no terminal is left alone.
func RawTerminal(ctx context.Context, in io.Reader, resize func(width, height uint)) (restore func(), err error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set the terminal up: %w", err)
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		defer signal.Stop(changed)
		for {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil {
				resize(uint(width), uint(height))
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { _ = term.Restore(int(f.Fd()), old) }, nil // it was set a moment ago
}
