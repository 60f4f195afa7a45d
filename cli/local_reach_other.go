//go:build !linux

package cli

import (
	"context"
	"net"
)

// A reach is how the containers of an engine are reached: here, as usual.
type reach struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	forward func(address string)
	close   func()
}

func (env *Env) reach(string, int) (reach, error) { return reach{close: func() {}}, nil }
