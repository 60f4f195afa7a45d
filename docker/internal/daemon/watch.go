package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopaasta/paasta/paasta/command"
)

// ErrSilent says that an engine takes connections and does not answer: it is
// frozen, or has far too much to do. One that is not there is no ErrSilent.
var ErrSilent = errors.New("the Docker engine does not answer")

// Dial returns a client for the engine at host, as New does, once the engine
// has answered. The error says what helps.
func Dial(ctx context.Context, host string) (*Client, error) {
	c, err := New(host)
	if err != nil {
		return nil, err
	}
	if err := c.ask(ctx, c.Patience); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ask sees that the engine answers within a limit. Left to the first calls,
// several at once would race for its version.
func (c *Client) ask(ctx context.Context, limit time.Duration) error {
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ping, err := c.Ping(asking)
	switch {
	case err == nil:
		c.NegotiateAPIVersionPing(ping)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case asking.Err() != nil:
		return c.silent(limit)
	}
	return Explain(fmt.Errorf("the Docker engine does not answer: %w", err))
}

// silent is the ErrSilent of one engine.
func (c *Client) silent(limit time.Duration) error {
	return command.WithHint(fmt.Errorf("%w: nothing from %s for %s", ErrSilent, c.DaemonHost(), limit),
		"docker info by hand; when that hangs as well, restart Docker, or name another engine in DOCKER_HOST")
}

// Watch returns a context that ends when ctx does, or, with an ErrSilent as its
// cause, when the engine has twice in a row not answered. It is for what waits
// for a container or a build and hears nothing for hours. Call stop at the end.
func (c *Client) Watch(ctx context.Context) (watched context.Context, stop func()) {
	return c.watch(ctx, c.Patience, c.Patience)
}

func (c *Client) watch(ctx context.Context, every, limit time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		again := time.NewTicker(every)
		defer again.Stop()
		for misses := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			// An engine that is being restarted comes back; whoever needs it learns of
			// its end from his own call.
			err := c.ask(ctx, limit)
			if !errors.Is(err, ErrSilent) {
				misses = 0
			} else if misses++; misses == 2 {
				cancel(c.silent(2 * limit))
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-over
	}
}
