package zk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// call runs f, which blocks without a bound, once there is a session, and
// returns when ctx ends at the latest. After a lost connection it runs f again
// if that does no harm (idempotent); again is then how often it has been.
func call[T any](ctx context.Context, c *Conn, op, path string, idempotent bool, f func(lib *zk.Conn, again int) (T, error)) (T, error) {
	var none T
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	type result struct {
		value T
		err   error
	}
	pause := 10 * time.Millisecond
	for again := 0; ; again++ {
		if err := c.await(ctx); err != nil {
			return none, fmt.Errorf("%s %s: %w", op, path, err)
		}
		// The goroutine outlives a ctx that ends first, until the library gives
		// the request up: two thirds of a session timeout at most.
		done := make(chan result, 1)
		go func() {
			value, err := f(c.lib, again)
			done <- result{value, err}
		}()
		var r result
		select {
		case r = <-done:
		case <-ctx.Done():
			return none, fmt.Errorf("%s %s: ZooKeeper does not answer: %w", op, path, ctx.Err())
		}
		if r.err == nil {
			return r.value, nil
		}
		if !idempotent || !connectionLost(r.err) {
			return r.value, fmt.Errorf("%s %s: %w", op, path, translate(r.err))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, time.Second)
	}
}

// connectionLost tells errors after which nobody knows whether the request was
// carried out.
func connectionLost(err error) bool {
	return errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrNoServer) ||
		errors.Is(err, zk.ErrSessionExpired) || errors.Is(err, zk.ErrSessionMoved)
}

func translate(err error) error {
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return ErrNoNode
	case errors.Is(err, zk.ErrNodeExists):
		return ErrNodeExists
	case errors.Is(err, zk.ErrBadVersion):
		return ErrBadVersion
	case errors.Is(err, zk.ErrNoAuth):
		return ErrForbidden
	case errors.Is(err, zk.ErrClosing):
		return ErrClosed
	case connectionLost(err):
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return err
}

// full returns path below the root.
func (c *Conn) full(path string) string {
	if path == "/" && c.root != "" {
		return c.root
	}
	return c.root + path
}

type read[T any] struct {
	value T
	stat  Stat
}

// Get reads data.
func (c *Conn) Get(ctx context.Context, path string) ([]byte, Stat, error) {
	r, err := call(ctx, c, "get", path, true, func(lib *zk.Conn, _ int) (read[[]byte], error) {
		data, stat, err := lib.Get(c.full(path))
		return read[[]byte]{data, toStat(stat)}, err
	})
	return r.value, r.stat, err
}

// Children lists child names, unsorted.
func (c *Conn) Children(ctx context.Context, path string) ([]string, Stat, error) {
	r, err := call(ctx, c, "list", path, true, func(lib *zk.Conn, _ int) (read[[]string], error) {
		names, stat, err := lib.Children(c.full(path))
		return read[[]string]{names, toStat(stat)}, err
	})
	return r.value, r.stat, err
}

// Create makes a persistent node, and its parents when they are missing.
func (c *Conn) Create(ctx context.Context, path string, data []byte) error {
	return c.create(ctx, path, data, zk.FlagPersistent)
}

func (c *Conn) create(ctx context.Context, p string, data []byte, flags int32) error {
	_, err := call(ctx, c, "create", p, true, func(lib *zk.Conn, again int) (struct{}, error) {
		_, err := lib.Create(c.full(p), data, flags, c.acl)
		if again > 0 && errors.Is(err, zk.ErrNodeExists) {
			// Perhaps it is ours, and only the answer was lost.
			there, stat, getErr := lib.Get(c.full(p))
			if getErr == nil && string(there) == string(data) && (flags == zk.FlagPersistent || stat.EphemeralOwner == lib.SessionID()) {
				return struct{}{}, nil
			}
		}
		return struct{}{}, err
	})
	if !errors.Is(err, ErrNoNode) {
		return err
	}
	if err := c.parents(ctx, p); err != nil {
		return err
	}
	_, err = call(ctx, c, "create", p, true, func(lib *zk.Conn, _ int) (struct{}, error) {
		_, err := lib.Create(c.full(p), data, flags, c.acl)
		return struct{}{}, err
	})
	return err
}

// parents makes the nodes above p, and the root if there is one.
func (c *Conn) parents(ctx context.Context, p string) error {
	full := path.Clean(c.root + path.Dir(p))
	for i := 1; i <= len(full); i++ {
		if i < len(full) && full[i] != '/' {
			continue
		}
		_, err := call(ctx, c, "create", full[:i], true, func(lib *zk.Conn, _ int) (struct{}, error) {
			_, err := lib.Create(full[:i], nil, zk.FlagPersistent, c.acl)
			return struct{}{}, err
		})
		if err != nil && !errors.Is(err, ErrNodeExists) {
			return err
		}
	}
	return nil
}

// CreateEphemeral makes an ephemeral node, and its (persistent) parents. An
// ephemeral node at that path is replaced: it is of an older session of ours, or
// of a process of ours that was killed. One of this session gets the data. A
// persistent node there is ErrNodeExists.
func (c *Conn) CreateEphemeral(ctx context.Context, path string, data []byte) error {
	const attempts = 5 // each loses against somebody who wants the same path
	var err error
	for range attempts {
		err = c.create(ctx, path, data, zk.FlagEphemeral)
		if !errors.Is(err, ErrNodeExists) {
			return err
		}
		_, stat, getErr := c.Get(ctx, path)
		switch {
		case errors.Is(getErr, ErrNoNode):
			continue
		case getErr != nil:
			return getErr
		case stat.EphemeralOwner == 0:
			return err
		case stat.EphemeralOwner == c.SessionID():
			if err = c.Set(ctx, path, data, -1); !errors.Is(err, ErrNoNode) {
				return err
			}
			continue
		}
		err = c.Multi(ctx,
			Op{Kind: OpDelete, Path: path, Version: stat.Version},
			Op{Kind: OpCreate, Path: path, Data: data, Ephemeral: true})
		if !errors.Is(err, ErrNoNode) && !errors.Is(err, ErrBadVersion) && !errors.Is(err, ErrNodeExists) {
			return err
		}
	}
	return err
}

// CreateEphemeralSequential makes a node and its parents and returns its path:
// prefix's directory, then "_c_", 32 hex digits, "-", prefix's last element and
// ten digits that grow. It is safe against an answer that was lost: no second
// node stays behind.
func (c *Conn) CreateEphemeralSequential(ctx context.Context, prefix string, data []byte) (string, error) {
	return c.createProtected(ctx, newGUID(), prefix, data)
}

func newGUID() string {
	var guid [16]byte
	_, _ = rand.Read(guid[:]) // never fails
	return fmt.Sprintf("%x", guid)
}

// createProtected is CreateEphemeralSequential with a guid by which the caller
// recognizes its nodes.
func (c *Conn) createProtected(ctx context.Context, guid, prefix string, data []byte) (string, error) {
	dir, last := path.Split(prefix)
	full := dir + "_c_" + guid + "-" + last
	parents := false
	for {
		name, err := call(ctx, c, "create", prefix, true, func(lib *zk.Conn, again int) (string, error) {
			if again > 0 {
				names, _, err := lib.Children(c.full(path.Clean(dir)))
				if err != nil && !errors.Is(err, zk.ErrNoNode) {
					return "", err
				}
				for _, name := range names {
					if strings.HasPrefix(name, "_c_"+guid+"-") {
						return c.root + dir + name, nil
					}
				}
			}
			return lib.Create(c.root+full, data, zk.FlagEphemeral|zk.FlagSequence, c.acl)
		})
		if !errors.Is(err, ErrNoNode) || parents {
			return strings.TrimPrefix(name, c.root), err
		}
		if err := c.parents(ctx, full); err != nil {
			return "", err
		}
		parents = true
	}
}

// Set writes data; version -1 for whatever is there.
func (c *Conn) Set(ctx context.Context, path string, data []byte, version int32) error {
	_, err := call(ctx, c, "set", path, version == -1, func(lib *zk.Conn, _ int) (struct{}, error) {
		_, err := lib.Set(c.full(path), data, version)
		return struct{}{}, err
	})
	return err
}

// Put is Set or, when there is no such node, Create.
func (c *Conn) Put(ctx context.Context, path string, data []byte) error {
	err := c.Set(ctx, path, data, -1)
	if !errors.Is(err, ErrNoNode) {
		return err
	}
	if err = c.Create(ctx, path, data); !errors.Is(err, ErrNodeExists) {
		return err
	}
	return c.Set(ctx, path, data, -1)
}

// Delete removes a node; version -1 for any. Gone already is ErrNoNode.
func (c *Conn) Delete(ctx context.Context, path string, version int32) error {
	_, err := call(ctx, c, "delete", path, version == -1, func(lib *zk.Conn, again int) (struct{}, error) {
		err := lib.Delete(c.full(path), version)
		if again > 0 && errors.Is(err, zk.ErrNoNode) {
			err = nil // the first time did it
		}
		return struct{}{}, err
	})
	return err
}

// DeleteAll removes a node and all below it. Gone already is no error.
func (c *Conn) DeleteAll(ctx context.Context, p string) error {
	const attempts = 10 // each loses against somebody who creates below p
	var err error
	for range attempts {
		names, _, listErr := c.Children(ctx, p)
		if errors.Is(listErr, ErrNoNode) {
			return nil
		}
		if listErr != nil {
			return listErr
		}
		for _, name := range names {
			if err := c.DeleteAll(ctx, path.Join(p, name)); err != nil {
				return err
			}
		}
		err = c.Delete(ctx, p, -1)
		if err == nil || errors.Is(err, ErrNoNode) {
			return nil
		}
		if !errors.Is(err, zk.ErrNotEmpty) {
			return err
		}
	}
	return err
}

func toStat(s *zk.Stat) Stat {
	if s == nil {
		return Stat{}
	}
	return Stat{
		Version: s.Version, Czxid: s.Czxid, Mzxid: s.Mzxid, Pzxid: s.Pzxid, EphemeralOwner: s.EphemeralOwner,
		NumChildren: s.NumChildren, DataLength: s.DataLength, Mtime: time.UnixMilli(s.Mtime),
	}
}
