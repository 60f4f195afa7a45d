package localrun

import (
	"context"
	"fmt"
	"io"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"

	"github.com/gopaasta/paasta/docker/internal/daemon"
)

// attach starts a created container with our terminal as its own.
func (e *Engine) attach(ctx context.Context, s Spec, o Options) (int, error) {
	attached, err := daemon.Hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
		return e.docker.ContainerAttach(ctx, s.Name, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	})
	if err != nil {
		return 0, daemon.Explain(fmt.Errorf("attach to %s: %w", s.Name, err))
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
	restore, err := daemon.RawTerminal(inner, o.In, func(width, height uint) {
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
	output := make(chan struct{})
	go func() {
		defer close(output)
		_, _ = io.Copy(o.Out, attached.Reader) // it ends with the container, however that ends
	}()
	select {
	case w := <-ended:
		<-output
		restore()
		return e.end(ctx, s, int(w.StatusCode), o)
	case err := <-failed:
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return 0, daemon.Explain(fmt.Errorf("wait for %s: %w", s.Name, err))
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
