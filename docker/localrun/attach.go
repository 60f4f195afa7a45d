package localrun

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/gopaasta/paasta/docker/internal/dial"
)

// attach starts a created container with our terminal as its own.
func (e *Engine) attach(ctx context.Context, s Spec, o Options) (int, error) {
	attached, err := e.docker.ContainerAttach(ctx, s.Name, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return 0, dial.Explain(fmt.Errorf("attach to %s: %w", s.Name, err))
	}
	defer attached.Close()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, failed := e.docker.ContainerWait(inner, s.Name, container.WaitConditionNextExit)
	if err := e.startCreated(ctx, s.Name); err != nil {
		return 0, explain(err, s)
	}
	if o.Started != nil {
		address, _, err := e.address(ctx, s)
		if err != nil {
			return 0, err
		}
		o.Started(address)
	}
	restore, err := Raw(inner, o.In, func(width, height uint) {
		// It may be gone already; its size is no reason to fail.
		_ = e.docker.ContainerResize(inner, s.Name, container.ResizeOptions{Width: width, Height: height})
	})
	if err != nil {
		return 0, err
	}
	defer restore()
	go func() {
		_, err := io.Copy(attached.Conn, o.In)
		if err == nil {
			_ = attached.CloseWrite() // the other end has gone first
		}
	}()
	output := make(chan error, 1)
	go func() {
		_, err := io.Copy(o.Out, attached.Reader)
		output <- err
	}()
	select {
	case w := <-ended:
		<-output
		restore()
		return e.end(ctx, s, int(w.StatusCode), o)
	case err := <-failed:
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, dial.Explain(fmt.Errorf("wait for %s: %w", s.Name, err))
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Raw hands a terminal over: what is typed goes on as it is, and resize is
// called with its size, now and when it changes, until ctx ends. restore gives
// the terminal back and may be called twice. What is no terminal is left alone.
func Raw(ctx context.Context, in io.Reader, resize func(width, height uint)) (restore func(), err error) {
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
