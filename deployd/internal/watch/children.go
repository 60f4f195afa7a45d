package watch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/gopaasta/paasta/paasta/zk"
)

// Children calls each with the names below dir, sorted, at once and whenever
// they may have changed, until ctx ends; then it returns nil. A dir that does
// not exist has none. When each fails it is called again a moment later.
func Children(ctx context.Context, conn *zk.Conn, dir string, log *slog.Logger, each func(ctx context.Context, names []string) error) error {
	wake := make(chan struct{}, 1)
	conn.Sessions(ctx, wake)
	for {
		names, _, err := conn.WatchChildren(ctx, dir, wake)
		if errors.Is(err, zk.ErrNoNode) {
			names, err = nil, nil
		}
		if err == nil {
			slices.Sort(names)
			err = each(ctx, names)
		}
		pause := time.Minute
		if err != nil && ctx.Err() == nil {
			log.Warn("watch of a znode failed, will retry", "path", dir, "err", err)
			pause = time.Second
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}
