// Package task finds the container of a task on a Docker Engine and lets a
// person look into it: what docker-exec, docker-inspect and docker-stop do.
package task

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/internal/option"
)

// callTimeout bounds one call of the engine.
const callTimeout = 2 * time.Minute

// watch returns a context for calls of the engine, which ends when that is
// frozen, and what explains the error of one. Call stop at the end.
func (e *Engine) watch(ctx context.Context, what string) (watched context.Context, explain func(error) error, stop func()) {
	watched, stop = e.docker.Watch(ctx)
	return watched, func(err error) error {
		if cause := context.Cause(watched); cause != nil {
			err = cause
		}
		return daemon.Explain(fmt.Errorf("%s: %w", what, err))
	}, stop
}

// ErrNone says that the engine runs no container of the task.
var ErrNone = errors.New("no container of that task runs here")

// Shell is what opens the best shell that an image has.
var Shell = []string{"/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi"}

// An Engine is a Docker engine that tasks run on.
type Engine struct{ docker *daemon.Client }

// Dial returns the engine at host, e.g. unix:///run/docker.sock or
// ssh://root@agent1, once it has answered; "" is the one of the environment.
func Dial(ctx context.Context, host string) (*Engine, error) {
	c, err := daemon.Dial(ctx, host)
	if err != nil {
		return nil, err
	}
	return &Engine{c}, nil
}

// Close lets go of its connections.
func (e *Engine) Close() error { return e.docker.Close() }

// Find returns the id of the container that a task runs in. Containers of
// paasta marathon have the task's id as a label, those of Mesos in their
// environment.
func (e *Engine) Find(ctx context.Context, service, instance, taskID string) (string, error) {
	ctx, explain, stop := e.watch(ctx, "list containers")
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list := func(labels ...string) ([]container.Summary, error) {
		args := filters.NewArgs()
		for _, l := range labels {
			args.Add("label", l)
		}
		all, err := e.docker.ContainerList(ctx, container.ListOptions{Filters: args})
		if err != nil {
			return nil, explain(err)
		}
		return all, nil
	}
	found, err := list(option.TaskLabel + "=" + taskID)
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return found[0].ID, nil
	}
	if found, err = list("paasta_service="+service, "paasta_instance="+instance); err != nil {
		return "", err
	}
	for _, c := range found {
		full, err := e.docker.ContainerInspect(ctx, c.ID)
		if err != nil {
			continue // it has ended meanwhile
		}
		if full.Config != nil && slices.Contains(full.Config.Env, option.TaskLabel+"="+taskID) {
			return c.ID, nil
		}
	}
	return "", fmt.Errorf("%s: %w", taskID, ErrNone)
}

// Inspect returns what the engine knows of a container, as JSON.
func (e *Engine) Inspect(ctx context.Context, id string) ([]byte, error) {
	ctx, explain, stop := e.watch(ctx, "inspect container "+id)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, text, err := e.docker.ContainerInspectWithRaw(ctx, id, false)
	if err != nil {
		return nil, explain(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "    "); err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", id, err)
	}
	return append(bytes.TrimSpace(b.Bytes()), '\n'), nil
}

// Stop ends a container: its stop signal, and after the grace SIGKILL.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, explain, stop := e.watch(ctx, "stop container "+id)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, grace+callTimeout)
	defer cancel()
	seconds := int(grace.Seconds())
	if err := e.docker.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds}); err != nil {
		return explain(err)
	}
	return nil
}

// A Session is a command to run in a container. In is nil for none. With TTY,
// In and Out are a terminal and Err is not used.
type Session struct {
	Argv     []string
	TTY      bool
	In       io.Reader
	Out, Err io.Writer
}

// Exec runs a command in a container and returns its exit status.
func (e *Engine) Exec(ctx context.Context, id string, s Session) (int, error) {
	// Nothing is heard of a session in which nothing happens: nor of a frozen engine.
	ctx, explain, stopWatching := e.watch(ctx, "run "+s.Argv[0]+" in container "+id[:min(12, len(id))])
	defer stopWatching()
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	exec, err := e.docker.ContainerExecCreate(calling, id, container.ExecOptions{
		Cmd: s.Argv, Tty: s.TTY, AttachStdin: s.In != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return 0, explain(err)
	}
	attached, err := daemon.Hijack(calling, func(ctx context.Context) (types.HijackedResponse, error) {
		return e.docker.ContainerExecAttach(ctx, exec.ID, container.ExecAttachOptions{Tty: s.TTY})
	})
	if err != nil {
		return 0, explain(err)
	}
	defer attached.Close()
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	if s.TTY {
		inner, done := context.WithCancel(ctx)
		defer done()
		restore, err := daemon.RawTerminal(inner, s.In, func(width, height uint) {
			// It may be gone already; its size is no reason to fail.
			_ = e.docker.ContainerExecResize(inner, exec.ID, container.ResizeOptions{Width: width, Height: height})
		})
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	if s.In != nil {
		go func() {
			if _, err := io.Copy(attached.Conn, s.In); err == nil {
				_ = attached.CloseWrite() // the other end has gone first
			}
		}()
	}
	if s.TTY {
		_, err = io.Copy(s.Out, attached.Reader)
	} else {
		_, err = stdcopy.StdCopy(s.Out, s.Err, attached.Reader)
	}
	if err != nil || ctx.Err() != nil {
		return 0, explain(err)
	}
	calling, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state, err := e.docker.ContainerExecInspect(calling, exec.ID)
	if err != nil {
		return 0, explain(err)
	}
	return state.ExitCode, nil
}
