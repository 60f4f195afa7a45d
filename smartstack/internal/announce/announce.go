// Package announce tells the masters that an agent runs on this host, and what
// its HAProxy has applied.
package announce

import (
	"bytes"
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
	WatchChildren(ctx context.Context, path string, wake chan<- struct{}) ([]string, zk.Stat, error)
	CreateEphemeral(ctx context.Context, path string, data []byte) error
	Set(ctx context.Context, path string, data []byte, version int32) error
}

// An Announcer keeps the node of this host.
type Announcer struct {
	Session Session
	Node    paasta.AgentNode // without Addrs and Applied
	Addrs   func() []string  // addresses that are this host's, asked for now and then
	// Quiet is the shortest pause between two writes: what comes within it
	// becomes one. Default 20ms.
	Quiet time.Duration
	Log   *slog.Logger

	mu      sync.Mutex
	applied map[string]int64
	news    chan struct{}
	once    sync.Once

	// Owned by Run.
	addrs   []string
	text    []byte // that was written last; nil: nobody knows
	version int32  // of the node with it
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
	look := true // whether the node is there
	for {
		pause := time.Minute // addresses may change, and an event may be lost
		if err := a.write(ctx, look, lost); err != nil && ctx.Err() == nil {
			a.text = nil
			pause, retry = retry, min(2*retry, 5*time.Second)
			if err.Error() != said {
				a.Log.Warn("announce this agent failed", "err", err, "retry_in", pause)
			}
			said = err.Error()
		} else {
			retry, said = first, ""
		}
		a.mu.Lock()
		// The whole node is written each time, and every master reads it.
		large := time.Duration(len(a.applied)) * 200 * time.Microsecond
		a.mu.Unlock()
		timer := time.NewTimer(max(quiet, min(large, 500*time.Millisecond)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		look = true
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-a.news:
			look = a.text == nil
		case <-lost:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// write makes the node say what is true now. Without look it does not ask whether
// the node is there, which lost tells: that is for changes, which may be many.
func (a *Announcer) write(ctx context.Context, look bool, lost chan<- struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if look && a.Addrs != nil {
		a.addrs = a.Addrs()
	}
	node := a.Node
	node.Addrs = a.addrs
	a.mu.Lock()
	node.Applied = a.applied
	text, err := json.Marshal(node)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	path := paasta.AgentsPath + "/" + node.Host
	if err := a.put(ctx, path, text, look, lost); err != nil {
		return fmt.Errorf("announce %s: %w", path, err)
	}
	return nil
}

func (a *Announcer) put(ctx context.Context, path string, text []byte, look bool, lost chan<- struct{}) error {
	if look {
		// The node has no children: what this watches for is its end. Its own data
		// would be read back, and tell of each write of ours.
		_, stat, err := a.Session.WatchChildren(ctx, path, lost)
		switch {
		case errors.Is(err, zk.ErrNoNode), err == nil && stat.EphemeralOwner != a.Session.SessionID():
			err = a.Session.CreateEphemeral(ctx, path, text)
			a.text, a.version = text, 0
			return err
		case err != nil:
			return err
		case stat.Version != a.version: // somebody else's
			a.text, a.version = nil, stat.Version
		}
	}
	if bytes.Equal(text, a.text) {
		return nil
	}
	if err := a.Session.Set(ctx, path, text, -1); err != nil {
		return err
	}
	a.text = text
	a.version++
	return nil
}
