package dial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/client"

	"github.com/gopaasta/paasta/paasta/command"
)

// ErrSilent says that an engine takes connections and does not answer: it is
// frozen, or has far too much to do. One that is not there is no ErrSilent.
var ErrSilent = errors.New("the Docker engine does not answer")

// Patience is what an engine has for the simplest question, and how often Watch
// asks one. Over ssh, ssh alone may take 15 s. Only tests change it.
var Patience = 20 * time.Second

// Answering returns a client for the engine at host, as Engine does, once the
// engine has answered. The error says what helps.
func Answering(ctx context.Context, host string) (*client.Client, error) {
	c, err := Engine(host)
	if err != nil {
		return nil, err
	}
	if err := ask(ctx, c, Patience); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ask sees that the engine answers within a limit. Left to the first calls,
// several at once would race for its version.
func ask(ctx context.Context, c *client.Client, limit time.Duration) error {
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
		return silent(c, limit)
	}
	return Explain(fmt.Errorf("the Docker engine does not answer: %w", err))
}

// silent is the ErrSilent of one engine.
func silent(c *client.Client, limit time.Duration) error {
	return command.WithHint(fmt.Errorf("%w: nothing from %s for %s", ErrSilent, c.DaemonHost(), limit),
		"docker info by hand; when that hangs as well, restart Docker, or name another engine in DOCKER_HOST")
}

// Watch returns a context that ends when ctx does, or, with an ErrSilent as its
// cause, when the engine has twice in a row not answered. It is for what waits
// for a container or a build and hears nothing for hours. Call stop at the end.
func Watch(ctx context.Context, c *client.Client) (watched context.Context, stop func()) {
	return watch(ctx, c, Patience, Patience)
}

func watch(ctx context.Context, c *client.Client, every, limit time.Duration) (context.Context, func()) {
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
			err := ask(ctx, c, limit)
			if !errors.Is(err, ErrSilent) {
				misses = 0
			} else if misses++; misses == 2 {
				cancel(silent(c, 2*limit))
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-over
	}
}
