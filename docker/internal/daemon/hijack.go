package daemon

import (
	"context"

	"github.com/docker/docker/api/types"
)

// Hijack is open, a ContainerAttach or ContainerExecAttach, but ends with ctx:
// Docker's client does not while a silent engine is to answer it. ctx bounds
// the opening alone, not the conversation.
func Hijack(ctx context.Context, open func(context.Context) (types.HijackedResponse, error)) (types.HijackedResponse, error) {
	type opened struct {
		conn types.HijackedResponse
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		conn, err := open(ctx)
		done <- opened{conn, err}
	}()
	select {
	case o := <-done:
		return o.conn, o.err
	case <-ctx.Done():
		go func() { // nobody waits for it any more
			if o := <-done; o.err == nil {
				o.conn.Close()
			}
		}()
		return types.HijackedResponse{}, context.Cause(ctx)
	}
}
