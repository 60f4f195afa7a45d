package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/paasta/command"
)

// A reach is how the containers of an engine are reached. The engine of a
// playground is in a network namespace of its own: there connections are made
// from inside, and the port is handed through to this machine.
type reach struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: as usual
	forward func(address string)                                                 // nil: not needed
	close   func()
}

// reach finds out whether the engine is that of the playground whose settings
// this shell has.
func (env *Env) reach(engine string, port int) (reach, error) {
	direct := reach{close: func() {}}
	dir := os.Getenv("PAASTA_PLAYGROUND")
	if dir == "" {
		return direct, nil
	}
	p, err := playground.Open(dir)
	if errors.Is(err, playground.ErrNone) || err == nil && p.DockerHost() != engine {
		return direct, nil
	} else if err != nil {
		return direct, err
	}
	if p.Inside() { // paasta playground exec
		return direct, nil
	}
	n, err := p.Enter()
	if err != nil {
		return direct, command.WithHint(fmt.Errorf("reach the playground's containers: %w", err), "as root, like the playground itself")
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return direct, errors.Join(fmt.Errorf("hand port %d through to the playground: %w", port, err), n.Close())
	}
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	return reach{
		dial: n.DialContext,
		forward: func(address string) {
			if address != "" {
				serving.Go(func() { handThrough(ctx, l, n, address) })
			}
		},
		close: func() {
			l.Close()
			cancel()
			serving.Wait()
			n.Close()
		},
	}, nil
}

// handThrough joins who comes to l with the container, until l is closed and
// ctx has ended.
func handThrough(ctx context.Context, l net.Listener, n *playground.Namespace, address string) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		open.Go(func() {
			defer client.Close()
			inside, err := n.DialContext(ctx, "tcp", address)
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
	if t, ok := to.(*net.TCPConn); ok {
		_ = t.CloseWrite() // it is closed already, or now
	}
}
