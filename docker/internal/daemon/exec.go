package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// Errors of Exec that say nothing about the engine's health, or nothing else.
var (
	// ErrExecTimeout says that the program ran and did not end in time.
	ErrExecTimeout = errors.New("it has not ended in time")
	// ErrUnavailable says that the engine could not be asked, so that nothing is known
	// of the program.
	ErrUnavailable = errors.New("the Docker engine could not be asked")
)

// keep is how much of what a program says is kept, in bytes.
const keep = 64 << 10

// Exec runs a program in a container until it ends, or ctx does. It returns its
// exit status and the beginning of what it said on both streams, trimmed; the
// rest is read and dropped, so that nobody waits for a reader. A program that is
// not there has a status of its own (126, 127).
func (c *Client) Exec(ctx context.Context, id string, argv ...string) (status int, said string, err error) {
	made, err := c.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: argv, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, "", explain(ctx, err)
	}
	attached, err := Hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
		return c.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	})
	if err != nil {
		return 0, "", explain(ctx, err)
	}
	defer attached.Close()
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	var b beginning
	_, err = stdcopy.StdCopy(&b, &b, attached.Reader)
	said = strings.TrimSpace(b.String())
	if ctx.Err() != nil {
		return 0, said, ErrExecTimeout
	}
	if err != nil {
		return 0, said, explain(ctx, err)
	}
	// It may have closed its streams and go on.
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		state, err := c.ContainerExecInspect(ctx, made.ID)
		switch {
		case err != nil:
			return 0, said, explain(ctx, err)
		case !state.Running:
			return state.ExitCode, said, nil
		}
		select {
		case <-ctx.Done():
			return 0, said, ErrExecTimeout
		case <-time.After(pause):
		}
	}
}

// explain makes an ErrUnavailable of an error that is no answer of the engine.
func explain(ctx context.Context, err error) error {
	_, network := errors.AsType[net.Error](err)
	if ctx.Err() != nil || network || client.IsErrConnectionFailed(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// A beginning keeps the first of what is written to it, and takes all.
type beginning struct{ bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), keep-b.Len())])
	return len(p), nil
}
