package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// Exec runs a shell command in a task's container; it is an error when it ends
// with a status other than 0, or not in time.
func (e *Engine) Exec(ctx context.Context, id, command string) error {
	exec, err := e.docker.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: []string{"sh", "-c", command}, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return err
	}
	attached, err := e.docker.ContainerExecAttach(ctx, exec.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer attached.Close()
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	var output bytes.Buffer
	if _, err := stdcopy.StdCopy(&output, &output, io.LimitReader(attached.Reader, 64<<10)); err != nil && ctx.Err() != nil {
		return fmt.Errorf("no end after %s", "its timeout")
	}
	state, err := e.docker.ContainerExecInspect(ctx, exec.ID)
	switch {
	case err != nil:
		return err
	case state.Running:
		return errors.New("still running")
	case state.ExitCode != 0:
		text := strings.TrimSpace(output.String())
		return fmt.Errorf("Command exited with status %d %s", state.ExitCode, text[:min(len(text), 200)]) //nolint:staticcheck // Mesos' words
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

// The ended containers that are kept, for their logs.
const (
	keepPerApp = 5
	keepFor    = time.Hour
)

// sweep removes ended containers that nobody will ask for, and their sandboxes.
func (e *Engine) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	args := e.mine()
	args.Add("status", "exited")
	args.Add("status", "dead")
	list, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return err
	}
	seen := map[string]int{} // newest come first
	for _, c := range list {
		app := c.Labels[appLabel]
		seen[app]++
		if seen[app] <= keepPerApp && time.Since(time.Unix(c.Created, 0)) < keepFor {
			continue
		}
		e.remove(ctx, c.ID)
		if id := c.Labels[taskLabel]; id != "" {
			if err := os.RemoveAll(sandboxOf(e.o.Sandboxes, id)); err != nil {
				e.o.Log.Warn("remove sandbox", "task", id, "err", err)
			}
		}
	}
	return nil
}
