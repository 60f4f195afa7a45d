//go:build !linux

package haproxy

import "context"

// Listeners are nothing on a system without the means to pass them.
type Listeners struct{}

// Take does nothing.
func (*Listeners) Take(context.Context, string, int) error { return nil }

// Drop does nothing.
func (*Listeners) Drop() {}

func (*Listeners) pass(string) (path string, stop func(), err error) { return "", func() {}, nil }

// Exited returns a channel that is closed once process pid has ended, or ctx has.
func Exited(ctx context.Context, pid int) <-chan struct{} {
	return exitedByPoll(ctx, pid)
}
