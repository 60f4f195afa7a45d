// Package httpserver is what all HTTP servers of ours share: how they start and
// stop, where they are reached, and for which Host they answer.
package httpserver

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Serve returns an actor (see rungroup) that serves srv on l until its context ends. The
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
