// Package reload gives HAProxy a new config without losing a connection: new
// ones are held back while the new process takes over, and let go afterwards.
package reload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Plug holds back new connections to the proxied ports, and lets them go.
type Plug interface {
	Hold(context.Context) error
	Release(context.Context) error
}

// None is the plug that holds nothing; HAProxy's passing of its listeners from
// the old process to the new one is always on.
type None struct{}

// Hold does nothing.
func (None) Hold(context.Context) error { return nil }

// Release does nothing.
func (None) Release(context.Context) error { return nil }

// A Reloader swaps processes behind a plug.
type Reloader struct {
	Plug Plug
	// Longest bounds how long connections are held. Default 2s.
	Longest time.Duration
	Log     *slog.Logger
}

// Do runs swap, which starts the new process, while connections are held. A
// plug that will not hold is logged and done without: a few refused connections
// are better than a stale config. A plug that will not let go is an error, and
// an outage of this host's clients. When swap takes longer than Longest,
// connections are let go and swap goes on.
func (r Reloader) Do(ctx context.Context, swap func(context.Context) error) error {
	longest := r.Longest
	if longest == 0 {
		longest = 2 * time.Second
	}
	if err := r.Plug.Hold(ctx); err != nil {
		r.Log.Warn("hold new connections failed, reloading without", "err", err)
		return errors.Join(swap(ctx), r.release(ctx))
	}
	swapped := make(chan error, 1)
	go func() { swapped <- swap(ctx) }()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case err := <-swapped:
		return errors.Join(err, r.release(ctx))
	case <-timer.C:
	}
	r.Log.Warn("reload takes too long, connections are released before its end", "took", longest)
	err := r.release(ctx)
	return errors.Join(<-swapped, err)
}

// release lets connections go, whatever has become of ctx, and tries thrice.
func (r Reloader) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var err error
	for range 3 {
		if err = r.Plug.Release(ctx); err == nil {
			return nil
		}
	}
	return fmt.Errorf("release the plug: %w", err)
}
