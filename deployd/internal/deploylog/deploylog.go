// Package deploylog keeps each service's latest deploy log lines in ZooKeeper,
// where paasta logs reads them. They are data for people; what an operator
// needs is in the daemon's own log as well.
package deploylog

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
)

// maxLines is how many lines a service keeps.
const maxLines = 200

// A Log collects lines and writes them in the background.
type Log struct {
	Conn    *zk.Conn
	Fence   zk.Fence
	Cluster string
	Log     *slog.Logger

	mu    sync.Mutex
	fresh map[string][]paasta.LogLine // by service
	wake  chan struct{}
	lines map[string][]paasta.LogLine // what is stored, owned by Run
}

// New returns a Log for one term of leadership.
func New(conn *zk.Conn, fence zk.Fence, cluster string, log *slog.Logger) *Log {
	return &Log{
		Conn: conn, Fence: fence, Cluster: cluster, Log: log,
		fresh: map[string][]paasta.LogLine{}, wake: make(chan struct{}, 1), lines: map[string][]paasta.LogLine{},
	}
}

// Say adds a line; level is event or debug. It does not block.
func (l *Log) Say(id paasta.InstanceID, level, message string) {
	line := paasta.LogLine{
		Time: time.Now().UTC(), Component: "deploy", Level: level, Cluster: l.Cluster,
		Service: id.Service, Instance: id.Instance, Message: message,
	}
	l.mu.Lock()
	l.fresh[id.Service] = tail(append(l.fresh[id.Service], line))
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func tail(lines []paasta.LogLine) []paasta.LogLine { return lines[max(0, len(lines)-maxLines):] }

// Run writes what is said until ctx ends, and then returns nil. Lines that
// cannot be written wait, and are tried again.
func (l *Log) Run(ctx context.Context) error {
	pause := time.Hour
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-time.After(pause):
		}
		l.mu.Lock()
		fresh := l.fresh
		l.fresh = map[string][]paasta.LogLine{}
		l.mu.Unlock()
		pause = time.Hour
		for service, lines := range fresh {
			if err := l.write(ctx, service, lines); err != nil && ctx.Err() == nil {
				l.Log.Warn("write the deploy log failed, will retry", "service", service, "err", err)
				l.mu.Lock()
				l.fresh[service] = tail(append(lines, l.fresh[service]...))
				l.mu.Unlock()
				pause = time.Second
			}
		}
		// Lines come in bursts: one write for each.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *Log) write(ctx context.Context, service string, lines []paasta.LogLine) error {
	p := paasta.DeployLogPath(l.Cluster, service)
	stored, known := l.lines[service]
	op := zk.Op{Kind: zk.OpSet, Path: p, Version: -1}
	if !known {
		text, _, err := l.Conn.Get(ctx, p)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			op.Kind = zk.OpCreate
			if err := l.Conn.Create(ctx, path.Dir(p), nil); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return err
			}
		case err != nil:
			return err
		case json.Unmarshal(text, &stored) != nil:
			stored = nil // not ours to read: begun anew
		}
	}
	stored = tail(append(slices.Clip(stored), lines...))
	text, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	op.Data = text
	if err := l.Conn.Multi(ctx, l.Fence.Op(), op); err != nil {
		delete(l.lines, service)
		return err
	}
	l.lines[service] = stored
	return nil
}
