package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/zk"
)

// maxMulti is how many bytes of names and data go into one transaction;
// ZooKeeper takes 1 MB, ACLs and headers included.
const maxMulti = 400 << 10

// Apply makes the changes; see Registry.
func (z *ZooKeeper) Apply(ctx context.Context, registration string, add []Entry, remove []Node) error {
	dir, err := znode(registration)
	if err != nil {
		return err
	}
	for _, e := range add {
		if err := Check(e); err != nil {
			return fmt.Errorf("register in %s: %w", registration, err)
		}
	}
	for _, n := range remove {
		if path.Dir(n.Path) != dir {
			return fmt.Errorf("remove %s: not below %s", n.Path, dir)
		}
	}
	var names []string
	if len(add) > 0 {
		if names, _, err = z.conn.Children(ctx, dir); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("change %s: %w", registration, err)
		}
	}
	create, gone := Plan(dir, names, add, remove)
	ops := make([]zk.Op, 0, len(create)+len(gone))
	for _, n := range create {
		ops = append(ops, zk.Op{Kind: zk.OpCreate, Path: n.Path, Data: data(n.Entry)})
	}
	for _, p := range gone {
		ops = append(ops, zk.Op{Kind: zk.OpDelete, Path: p, Version: -1})
	}
	for len(ops) > 0 {
		n := batch(ops)
		if err := z.transact(ctx, dir, ops[:n]); err != nil {
			return fmt.Errorf("change %s: %w", registration, err)
		}
		ops = ops[n:]
	}
	return nil
}

// Plan returns the nodes to create and the paths to delete below dir, whose
// children have names, so that the changes are made. A new node gets the next
// sequence, unless it replaces one that serves: that keeps its place in synapse's
// leader election, as it does when nerve changes it, and only who is new, or comes
// back, is the last in line.
func Plan(dir string, names []string, add []Entry, remove []Node) (create []Node, gone []string) {
	there := make(map[string]string, len(names)) // namePrefix → name
	for _, name := range names {
		there[name[:strings.LastIndexByte(name, '_')+1]] = name
	}
	replaced := map[string]int64{} // by address
	for _, n := range remove {
		if sequence, ok := Sequence(path.Base(n.Path)); ok && n.Weight > 0 {
			replaced[address(n.Entry)] = sequence
		}
	}
	next := after(names)
	stays := map[string]bool{}
	for _, e := range add {
		if name, ok := there[namePrefix(e)]; ok {
			stays[path.Join(dir, name)] = true // what is both added and removed stays as it is
			continue
		}
		sequence, ok := replaced[address(e)]
		if !ok {
			sequence = next
			next++
		}
		name := NodeName(e, sequence)
		there[namePrefix(e)] = name
		create = append(create, Node{Entry: e, Path: path.Join(dir, name)})
	}
	for _, n := range remove {
		if !stays[n.Path] {
			gone = append(gone, n.Path)
		}
	}
	return create, gone
}

func address(e Entry) string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// batch returns how many of ops fit into one transaction, at least one.
func batch(ops []zk.Op) int {
	size := 0
	for i, op := range ops {
		if size += len(op.Path) + len(op.Data) + 100; size > maxMulti && i > 0 {
			return i
		}
	}
	return len(ops)
}

// transact makes ops in one transaction. Those that are made already, by an
// earlier try whose answer was lost or by somebody else, are left out.
func (z *ZooKeeper) transact(ctx context.Context, dir string, ops []zk.Op) error {
	const attempts = 10 // each met somebody else's change, or lost the connection
	var err error
	for attempt := range attempts {
		if attempt > 0 {
			if ops, err = z.remaining(ctx, dir, ops); err != nil {
				return err
			}
			if len(ops) == 0 {
				return nil
			}
		}
		all := ops
		if z.fence != nil {
			all = append([]zk.Op{z.fence.Op()}, ops...)
		}
		err = z.conn.Multi(ctx, all...)
		var failed *zk.OpError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &failed):
			if failed.Op.Kind == zk.OpCheck {
				return err // another leads
			}
			if failed.Op.Kind == zk.OpCreate && errors.Is(err, zk.ErrNoNode) {
				if err := z.conn.Create(ctx, dir, nil); err != nil && !errors.Is(err, zk.ErrNodeExists) {
					return err
				}
			} else if !errors.Is(err, zk.ErrNoNode) && !errors.Is(err, zk.ErrNodeExists) {
				return err
			}
		case errors.Is(err, zk.ErrUncertain):
			timer := time.NewTimer(20 * time.Millisecond << min(attempt, 6))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return err
			}
		default:
			return err
		}
	}
	return err
}

// remaining returns those of ops that there is still something to do for.
func (z *ZooKeeper) remaining(ctx context.Context, dir string, ops []zk.Op) ([]zk.Op, error) {
	names, _, err := z.conn.Children(ctx, dir)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[path.Join(dir, name)] = true
	}
	var remaining []zk.Op
	for _, op := range ops {
		if op.Kind == zk.OpCreate && !there[op.Path] || op.Kind == zk.OpDelete && there[op.Path] {
			remaining = append(remaining, op)
		}
	}
	return remaining, nil
}
