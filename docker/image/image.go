// Package image builds, finds and pushes the images of services: what the
// commands cook-image, itest and push-to-registry do with an engine and a
// registry. Running containers is not its business.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/docker/internal/daemon"
)

// An Engine is the Docker engine that DOCKER_HOST and its companions name.
type Engine struct{ client *daemon.Client }

// ErrSilent says that an engine takes connections and does not answer.
var ErrSilent = daemon.ErrSilent

// callTimeout bounds one call of the engine that moves no image.
const callTimeout = time.Minute

// Dial returns the engine of the environment once it has answered.
func Dial(ctx context.Context) (*Engine, error) {
	c, err := daemon.Dial(ctx, "")
	if err != nil {
		return nil, err
	}
	return &Engine{c}, nil
}

// Close lets go of its connections.
func (e *Engine) Close() error { return e.client.Close() }

// Watch returns a context that ends, with an ErrSilent as its cause, when the
// engine stops answering, and in any case with ctx. Call stop at the end.
func (e *Engine) Watch(ctx context.Context) (watched context.Context, stop func()) {
	return e.client.Watch(ctx)
}

// Has tells whether the engine has an image called ref.
func (e *Engine) Has(ctx context.Context, ref string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := e.client.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, daemon.Explain(fmt.Errorf("look for image %s: %w", ref, err))
	}
	return true, nil
}

// A Target is one of the targets of a service repository's Makefile.
type Target struct {
	Dir, Name string
	DockerTag string // handed over as DOCKER_TAG
	Out, Err  io.Writer
}

// ErrNoTarget says that there is no Makefile, or that it has no such target.
var ErrNoTarget = errors.New("no such target")

// Make runs the target. When ctx ends it tells the whole process group to stop
// and, five seconds later, makes it. The error is an *exec.ExitError when make
// itself said no.
func (t Target) Make(ctx context.Context) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "make", t.Name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.Dir, t.Out, t.Err
	cmd.Env = t.environment()
	switch {
	case hasBuildx(ctx):
		if os.Getenv("DOCKER_BUILDKIT") == "" {
			cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=1") // before Docker 23 it is not the default
		}
	case t.Err != nil:
		w := &withoutNotice{w: t.Err}
		defer w.Close()
		if cmd.Stderr = w; t.Out == t.Err {
			cmd.Stdout = w
		}
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		// What did not heed the first signal; gone already, as a rule.
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		return fmt.Errorf("make %s: %w", t.Name, context.Cause(ctx))
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) { // it has ended; something that it left has its output
		return fmt.Errorf("make %s: %w", t.Name, err)
	}
	return nil
}

// environment is ours with DOCKER_TAG. What a make that we were called from
// tells its children is not for this one.
func (t Target) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "MAKEFLAGS=") || strings.HasPrefix(kv, "MFLAGS=") || strings.HasPrefix(kv, "MAKELEVEL=")
	})
	return append(env, "DOCKER_TAG="+t.DockerTag)
}

func (t Target) has(file string) bool {
	_, err := os.Stat(filepath.Join(t.Dir, file))
	return err == nil
}

// check asks make whether it knows the target: "-q" exits with 2 when not.
func (t Target) check(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "make", "-q", t.Name)
	cmd.Dir, cmd.Env = t.Dir, t.environment()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return nil // there is something to do
	case errors.As(err, &exit) && !slices.ContainsFunc([]string{"GNUmakefile", "makefile", "Makefile"}, t.has):
		return fmt.Errorf("%w %q: there is no Makefile in %s", ErrNoTarget, t.Name, t.Dir)
	case errors.As(err, &exit):
		return fmt.Errorf("%w %q in the Makefile of %s: %s", ErrNoTarget, t.Name, t.Dir, lastLine(out))
	}
	return err
}
