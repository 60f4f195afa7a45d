// Package announce tells the masters that an agent runs on this host, and what
// its HAProxy has applied.
package announce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
)

// A Session is what an Announcer needs of ZooKeeper.
type Session interface {
	Sessions(ctx context.Context, wake chan<- struct{})
	SessionID() int64
	WatchData(ctx context.Context, path string, wake chan<- struct{}) ([]byte, zk.Stat, error)
	CreateEphemeral(ctx context.Context, path string, data []byte) error
	Set(ctx context.Context, path string, data []byte, version int32) error
}

// An Announcer keeps the node of this host.
type Announcer struct {
	Session Session
	Node    paasta.AgentNode // without Addrs and Applied
	Addrs   func() []string  // addresses that are this host's, asked for at each write
	// Quiet is the shortest pause between two writes: what comes within it
	// becomes one. Default 20ms.
	Quiet time.Duration
	Log   *slog.Logger

	mu      sync.Mutex
	applied map[string]int64
	news    chan struct{}
	once    sync.Once
}

func (a *Announcer) init() {
	a.once.Do(func() { a.news, a.applied = make(chan struct{}, 1), map[string]int64{} })
}

// Applied says which registrations HAProxy has up to another version now, and
// which are gone. It never blocks.
func (a *Announcer) Applied(versions map[string]int64, gone []string) {
	a.init()
	a.mu.Lock()
	maps.Copy(a.applied, versions)
	for _, name := range gone {
		delete(a.applied, name)
	}
	a.mu.Unlock()
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// Run keeps the node until ctx ends: it is made again when the session was lost
// or somebody deleted it. Nothing is announced before Applied was called for the
// first time.
func (a *Announcer) Run(ctx context.Context) error {
	a.init()
	quiet := a.Quiet
	if quiet == 0 {
		quiet = 20 * time.Millisecond
	}
	select {
	case <-ctx.Done():
		return nil
	case <-a.news:
	}
	lost := make(chan struct{}, 1)
	a.Session.Sessions(ctx, lost)
	const first = 100 * time.Millisecond
	retry := first
	said := ""
	for {
		pause := time.Minute // addresses may change, and an event may be lost
		if err := a.write(ctx, lost); err != nil && ctx.Err() == nil {
			pause, retry = retry, min(2*retry, 5*time.Second)
			if err.Error() != said {
				a.Log.Warn("announced this agent", "err", err, "retry_in", pause)
			}
			said = err.Error()
		} else {
			retry, said = first, ""
		}
		a.mu.Lock()
		// The whole node is written each time, and every master reads it.
		large := time.Duration(len(a.applied)) * 200 * time.Microsecond
		a.mu.Unlock()
		if !sleep(ctx, max(quiet, min(large, 500*time.Millisecond)), nil, nil) || !sleep(ctx, pause, a.news, lost) {
			return nil
		}
	}
}

// write makes the node say what is true now.
func (a *Announcer) write(ctx context.Context, lost chan<- struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	node := a.Node
	if a.Addrs != nil {
		node.Addrs = a.Addrs()
	}
	a.mu.Lock()
	node.Applied = maps.Clone(a.applied)
	a.mu.Unlock()
	text, err := json.Marshal(node)
	if err != nil {
		panic(err) // our own struct
	}
	path := paasta.AgentsPath + "/" + node.Host
	old, stat, err := a.Session.WatchData(ctx, path, lost)
	switch {
	case errors.Is(err, zk.ErrNoNode), err == nil && stat.EphemeralOwner != a.Session.SessionID():
		err = a.Session.CreateEphemeral(ctx, path, text)
	case err == nil && string(old) != string(text):
		err = a.Session.Set(ctx, path, text, -1)
	}
	if err != nil {
		return fmt.Errorf("announce %s: %w", path, err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration, a, b <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-a:
	case <-b:
	case <-timer.C:
	}
	return true
}
