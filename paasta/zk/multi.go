package zk

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"
)

// An Op is one part of a Multi.
type Op struct {
	Kind                  OpKind
	Path                  string
	Data                  []byte
	Version               int32 // for OpCheck, OpSet, OpDelete; -1 for any
	Ephemeral, Sequential bool  // for OpCreate
}

// An OpKind is what an Op does.
type OpKind int

// The kinds.
const (
	OpCreate OpKind = iota
	OpSet
	OpDelete
	OpCheck
)

// String returns what people call it.
func (k OpKind) String() string {
	switch k {
	case OpCreate:
		return "create"
	case OpSet:
		return "set"
	case OpDelete:
		return "delete"
	case OpCheck:
		return "check"
	}
	return fmt.Sprintf("OpKind(%d)", int(k))
}

// An OpError says which op of a Multi failed.
type OpError struct {
	Index int
	Op    Op
	Err   error
}

func (e *OpError) Error() string {
	return fmt.Sprintf("op %d, %s %s: %v", e.Index, e.Op.Kind, e.Op.Path, e.Err)
}

func (e *OpError) Unwrap() error { return e.Err }

// Multi makes all ops or none, in one transaction. It makes no parents. When an
// op fails the error is an *OpError; after a lost connection nobody knows
// whether they were made.
func (c *Conn) Multi(ctx context.Context, ops ...Op) error {
	if len(ops) == 0 {
		return nil
	}
	requests := make([]any, len(ops))
	for i, op := range ops {
		p := c.full(op.Path)
		switch op.Kind {
		case OpCreate:
			var flags int32
			if op.Ephemeral {
				flags |= zk.FlagEphemeral
			}
			if op.Sequential {
				flags |= zk.FlagSequence
			}
			requests[i] = &zk.CreateRequest{Path: p, Data: op.Data, Acl: c.acl, Flags: flags}
		case OpSet:
			requests[i] = &zk.SetDataRequest{Path: p, Data: op.Data, Version: op.Version}
		case OpDelete:
			requests[i] = &zk.DeleteRequest{Path: p, Version: op.Version}
		case OpCheck:
			requests[i] = &zk.CheckVersionRequest{Path: p, Version: op.Version}
		default:
			return fmt.Errorf("multi: op %d has the unknown kind %d", i, op.Kind)
		}
	}
	var failed *OpError
	answers, err := call(ctx, c, "multi on", ops[0].Path, false, func(lib *zk.Conn, _ int) ([]zk.MultiResponse, error) {
		return lib.Multi(requests...)
	})
	if err == nil {
		return nil
	}
	for i, answer := range answers {
		if e := translate(answer.Error); e != nil && i < len(ops) {
			// Those after the one that failed say that, no more.
			if errors.Is(e, ErrNoNode) || errors.Is(e, ErrNodeExists) || errors.Is(e, ErrBadVersion) || failed == nil {
				failed = &OpError{i, ops[i], e}
				break
			}
		}
	}
	if failed != nil {
		return fmt.Errorf("multi: %w", failed)
	}
	return err
}

// A Fence proves leadership in a transaction: Check is an op that fails with
// ErrBadVersion or ErrNoNode once the leader node is another's.
type Fence struct {
	Path    string
	Version int32
}

// Op returns the check to put first into a Multi.
func (f Fence) Op() Op { return Op{Kind: OpCheck, Path: f.Path, Version: f.Version} }
