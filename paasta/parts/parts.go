// Package parts is what all daemons are made of: parts that run side by side and
// end together, an HTTP server among them.
package parts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Run runs one part of a daemon. It returns nil only if the part stopped
// because ctx ended: a part that gives up early is an error, whatever it says.
// An errgroup alone would not notice one that returns nil.
func Run(ctx context.Context, name string, run func(context.Context) error) error {
	err := run(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		err = errors.New("stopped by itself")
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Serve returns a part that serves srv on l until its context ends. The
// contexts of requests end with it, so that long polls and those who follow a
// log are let go, and open requests have grace to finish before they are cut
// off.
func Serve(l net.Listener, srv *http.Server, grace time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		if srv.ReadHeaderTimeout == 0 {
			srv.ReadHeaderTimeout = 10 * time.Second
		}
		srv.BaseContext = func(net.Listener) context.Context { return ctx }
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(l) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if err := srv.Shutdown(ctx); err != nil {
				return srv.Close()
			}
			return nil
		}
	}
}
