package cli

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/gopaasta/paasta/docker/forward"
	"github.com/gopaasta/paasta/docker/localrun"
)

// A reach is how the containers of an engine are reached. Where that is not as
// usual, connections are made through something, and the service's port is
// handed through to this machine.
type reach struct {
	dial    forward.Dialer       // nil: as usual
	forward func(address string) // nil: not needed
	close   func()
}

// reachOf finds out how the containers of an engine are reached.
func reachOf(env *Env, engine *localrun.Engine, port int) (reach, error) {
	if through := engine.Through(); through != nil {
		return reachThrough(through, port)
	}
	return reachFrom(env, engine.Address(), port)
}

// reachFrom is for an engine that has a socket here. The containers of a playground
// are in a network namespace of their own.
func reachFrom(env *Env, engine string, port int) (reach, error) {
	through, leave, err := intoPlayground(env, engine)
	if err != nil || through == nil {
		return reach{close: func() {}}, err
	}
	r, err := reachThrough(through, port)
	if err != nil {
		leave()
		return r, err
	}
	end := r.close
	r.close = func() {
		end()
		leave()
	}
	return r, nil
}

// reachThrough hands a port of this machine through to a container.
func reachThrough(dial forward.Dialer, port int) (reach, error) {
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
				serving.Go(func() { forward.Serve(ctx, l, dial, address) })
			}
		},
		close: func() {
			l.Close()
			cancel()
			serving.Wait()
		},
	}, nil
}
