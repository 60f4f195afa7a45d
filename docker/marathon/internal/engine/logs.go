package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// Exec runs a shell command in a task's container; it is an error when it ends
// with a status other than 0, a daemon.ErrExecTimeout when it does not end in time,
// and a daemon.ErrUnavailable when the engine is what does not answer.
func (e *Engine) Exec(ctx context.Context, id, command string) error {
	status, said, err := e.docker.Exec(ctx, id, "sh", "-c", command)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("Command exited with status %d %s", status, said[:min(len(said), 200)]) //nolint:staticcheck // Mesos' words
	}
	return nil
}

// A Line is one line of a task's output.
type Line struct {
	Time   time.Time
	Stream string // stdout or stderr
	Text   string
}

// Logs sends the last lines (all for a negative number) of a task's output to
// send, and with follow what comes after, until the container ends, ctx ends, or
// send fails.
func (e *Engine) Logs(ctx context.Context, id, taskID string, stdout, stderr, follow bool, lines int, send func(Line) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if id == "" {
		id = containerName(taskID)
	}
	tail := "all"
	if lines >= 0 {
		tail = strconv.Itoa(lines)
	}
	c, err := e.docker.ContainerInspect(ctx, id)
	if err != nil {
		return err
	}
	r, err := e.docker.ContainerLogs(ctx, id, container.LogsOptions{
		ShowStdout: stdout, ShowStderr: stderr, Follow: follow, Timestamps: true, Tail: tail,
	})
	if err != nil {
		return err
	}
	defer r.Close()
	if c.Config.Tty {
		return scan(r, "stdout", send)
	}
	out, outW := io.Pipe()
	errs, errW := io.Pipe()
	done := make(chan error, 2)
	serial := make(chan struct{}, 1) // one line at a time
	each := func(l Line) error {
		serial <- struct{}{}
		defer func() { <-serial }()
		return send(l)
	}
	go func() { done <- scan(out, "stdout", each) }()
	go func() { done <- scan(errs, "stderr", each) }()
	_, err = stdcopy.StdCopy(outW, errW, r)
	outW.Close()
	errW.Close()
	first := <-done
	if err := errors.Join(first, <-done); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func scan(r io.ReadCloser, stream string, send func(Line) error) error {
	defer r.Close() // lets whoever writes go
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		text, err := in.ReadString('\n')
		if text != "" {
			stamp, rest, _ := strings.Cut(strings.TrimRight(text, "\r\n"), " ")
			at, bad := time.Parse(time.RFC3339Nano, stamp)
			if bad != nil {
				at, rest = time.Now(), text
			}
			if err := send(Line{at, stream, rest}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, context.Canceled) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
