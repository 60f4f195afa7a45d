//go:build !linux

package accesslog

import (
	"context"
	"errors"
)

// A Socket receives datagrams, on Linux.
type Socket struct {
	Queue    int
	QueueErr error
}

var errLinux = errors.New("log socket: it needs Linux; run paasta smartstack on a host of the cluster")

// Listen says that there is no such socket here.
func Listen(string) (*Socket, error) { return nil, errLinux }

// Received counts the datagrams that came.
func (*Socket) Received() int64 { return 0 }

// Run says that there is no such socket here.
func (*Socket) Run(context.Context, func([]byte)) error { return errLinux }
