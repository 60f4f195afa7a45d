// Package environment makes, finds and removes environments of test
// dependencies on a Docker Engine: private copies of all that a service needs to
// be tested, in a network of their own, with an own 169.254.255.254. An
// environment lives on the engine alone: its labels say all that is known of it.
package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/paasta/command"
)

// call bounds every single call of the engine.
const call = 2 * time.Minute

// An Engine is a Docker Engine that holds environments.
type Engine struct{ docker *daemon.Client }

// Dial returns the engine at host, "" for the one that DOCKER_HOST names, and
// sees that it answers.
func Dial(ctx context.Context, host string) (*Engine, error) {
	c, err := daemon.Dial(ctx, host)
	if err != nil {
		return nil, err
	}
	return &Engine{c}, nil
}

// Close lets go of its connections.
func (e *Engine) Close() error { return e.docker.Close() }

// Address is the engine's, as DOCKER_HOST has it.
func (e *Engine) Address() string { return e.docker.DaemonHost() }

// cpus is how many the engine has.
func (e *Engine) cpus(ctx context.Context) (int, error) {
	if e.docker.Local() {
		return runtime.NumCPU(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	info, err := e.docker.Info(ctx)
	if err != nil {
		return 0, explain(err)
	}
	return max(1, info.NCPU), nil
}

// explain adds what helps to what an engine says.
func explain(err error) error {
	var hinted command.HintedError
	if err == nil || errors.As(err, &hinted) {
		return err
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "no space left on device"):
		return command.WithHint(err, "the engine's disk is full: docker system df shows what fills it, docker system prune removes what nobody uses, paasta test-deps down --all removes every environment")
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"):
		return command.WithHint(err, "another program took the port just then: the same again")
	}
	return daemon.Explain(err)
}

// A Failure is a dependency that did not come up.
type Failure struct {
	Environment, Dependency string
	Err                     error
	Log                     []string // its last lines
}

// Error says which, why, and what it logged last.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", f.Dependency, f.Err)
	if len(f.Log) > 0 {
		fmt.Fprintf(&b, "\nThe last that %s logged:", f.Dependency)
		for _, line := range f.Log {
			b.WriteString("\n  | " + line)
		}
	}
	return b.String()
}

func (f *Failure) Unwrap() error { return f.Err }

// A Change is news of one dependency.
type Change struct {
	Dependency string
	State      string        // waiting, building, pulling, starting, checking, ready, failed
	Detail     string        // e.g. what it waits for; may be empty
	After      time.Duration // since the environment was asked for
}

// String is one line about it.
func (c Change) String() string {
	text := c.Dependency + ": " + c.State
	if c.Detail != "" {
		text += " " + c.Detail
	}
	if c.State == "ready" {
		text += fmt.Sprintf(" after %.1f s", c.After.Seconds())
	}
	return text
}

// within bounds a call that has to be made even when ctx has ended.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(limit, call))
}
