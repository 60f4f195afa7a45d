// Package forward hands ports of this machine through to where only a dialer
// gets: the machine of an engine that is reached by ssh, another network
// namespace.
package forward

import (
	"context"
	"io"
	"net"
	"sync"
)

// A Dialer makes connections, as that of package net does.
type Dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// Serve joins who comes to l with address, until l is closed and ctx has ended.
func Serve(ctx context.Context, l net.Listener, dial Dialer, address string) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		open.Go(func() {
			defer client.Close()
			inside, err := dial(ctx, "tcp", address)
			if err != nil {
				return // as if nobody listened
			}
			defer inside.Close()
			stop := context.AfterFunc(ctx, func() { client.Close(); inside.Close() })
			defer stop()
			var both sync.WaitGroup
			both.Go(func() { copyAndClose(inside, client) })
			both.Go(func() { copyAndClose(client, inside) })
			both.Wait()
		})
	}
}

// copyAndClose copies until the source ends, and passes the end on.
func copyAndClose(to, from net.Conn) {
	_, _ = io.Copy(to, from) // a broken connection ends like any other here
	if t, ok := to.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite() // it is closed already, or now
	}
}
