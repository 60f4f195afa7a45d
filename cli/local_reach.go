package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/gopaasta/paasta/docker/localrun"
)

// A reach is how the containers of an engine are reached. Where that is not as
// usual, connections are made through something, and the service's port is
// handed through to this machine.
type reach struct {
	dial    dialer               // nil: as usual
	forward func(address string) // nil: not needed
	close   func()
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// reachOf finds out how the containers of an engine are reached.
func (env *Env) reachOf(engine *localrun.Engine, port int) (reach, error) {
	if through := engine.Through(); through != nil {
		return reachThrough(through, port)
	}
	return env.reach(engine.Address(), port)
}

// reachThrough hands a port of this machine through to a container.
func reachThrough(dial dialer, port int) (reach, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return reach{}, fmt.Errorf("hand port %d through to the service: %w", port, err)
	}
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	return reach{
		dial: dial,
		forward: func(address string) {
			if address != "" {
				serving.Go(func() { handThrough(ctx, l, dial, address) })
			}
		},
		close: func() {
			l.Close()
			cancel()
			serving.Wait()
		},
	}, nil
}

// handThrough joins who comes to l with the container, until l is closed and
// ctx has ended.
func handThrough(ctx context.Context, l net.Listener, dial dialer, address string) {
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
