// Package zk is a ZooKeeper session that knows contexts, expiry and
// leadership. It is the only user of github.com/go-zookeeper/zk.
package zk

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Errors that callers branch on; every other error is wrapped with operation
// and path.
var (
	ErrNoNode     = errors.New("no such znode")
	ErrNodeExists = errors.New("znode exists")
	ErrBadVersion = errors.New("znode has another version") // also: leadership was lost
)

// Options say how to connect. Servers is required.
type Options struct {
	Servers string        // "h1:2181,h2:2181", also with "zk://" before and a path behind, which becomes the root
	Auth    string        // "user:password" for digest; what we create then carries ACLs (all for us, read for the world)
	Timeout time.Duration // session; default 10s
	Log     *slog.Logger  // default: discard
}

// A Stat is what ZooKeeper says about a znode.
type Stat struct {
	Version                 int32
	Czxid, Mzxid, Pzxid     int64
	EphemeralOwner          int64
	NumChildren, DataLength int32
	Mtime                   time.Time
}

// A Conn is one session at a time: when a session expires, a new one is made
// and Sessions tells about it. It never gives up and never panics; calls fail
// with their context's error when ZooKeeper does not answer in time.
type Conn struct{}

// Dial returns a Conn that connects in the background. It fails only for
// options that can never work.
func Dial(o Options) (*Conn, error) { panic("to be written") }

// Close ends the session at once, which removes its ephemeral nodes.
func (c *Conn) Close() {}

// Connected tells whether the session is alive now.
func (c *Conn) Connected() bool { panic("to be written") }

// Sessions sends on wake, without blocking, after every (re)connection and
// every new session, until ctx ends: read everything again, make ephemerals
// anew.
func (c *Conn) Sessions(ctx context.Context, wake chan<- struct{}) { panic("to be written") }

// SessionID is 0 while there is none.
func (c *Conn) SessionID() int64 { panic("to be written") }

// Get reads data.
func (c *Conn) Get(ctx context.Context, path string) ([]byte, Stat, error) { panic("to be written") }

// Children lists child names, unsorted.
func (c *Conn) Children(ctx context.Context, path string) ([]string, Stat, error) {
	panic("to be written")
}

// WatchChildren is Children, and sends once on wake, without blocking, when
// they change, the node goes, or the watch is lost. For a node that does not
// exist it watches for its creation and returns ErrNoNode.
func (c *Conn) WatchChildren(ctx context.Context, path string, wake chan<- struct{}) ([]string, Stat, error) {
	panic("to be written")
}

// WatchData is Get with a watch in the manner of WatchChildren.
func (c *Conn) WatchData(ctx context.Context, path string, wake chan<- struct{}) ([]byte, Stat, error) {
	panic("to be written")
}

// Create makes a persistent node, and its parents when they are missing.
func (c *Conn) Create(ctx context.Context, path string, data []byte) error { panic("to be written") }

// CreateEphemeral makes an ephemeral node, and its (persistent) parents. A node
// of an older session of ours at that path is replaced.
func (c *Conn) CreateEphemeral(ctx context.Context, path string, data []byte) error {
	panic("to be written")
}

// CreateEphemeralSequential makes prefix<10 digits> and returns its path. It is
// safe against an answer that was lost: no second node stays behind.
func (c *Conn) CreateEphemeralSequential(ctx context.Context, prefix string, data []byte) (string, error) {
	panic("to be written")
}

// Set writes data; version -1 for whatever is there.
func (c *Conn) Set(ctx context.Context, path string, data []byte, version int32) error {
	panic("to be written")
}

// Put is Set or, when there is no such node, Create.
func (c *Conn) Put(ctx context.Context, path string, data []byte) error { panic("to be written") }

// Delete removes a node; version -1 for any. Gone already is ErrNoNode.
func (c *Conn) Delete(ctx context.Context, path string, version int32) error {
	panic("to be written")
}

// DeleteAll removes a node and all below it.
func (c *Conn) DeleteAll(ctx context.Context, path string) error { panic("to be written") }

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

// Multi makes all ops or none, in one transaction. The error names the op that
// failed.
func (c *Conn) Multi(ctx context.Context, ops ...Op) error { panic("to be written") }

// A Fence proves leadership in a transaction: Check is an op that fails with
// ErrBadVersion or ErrNoNode once the leader node is another's.
type Fence struct {
	Path    string
	Version int32
}

// Op returns the check to put first into a Multi.
func (f Fence) Op() Op { return Op{Kind: OpCheck, Path: f.Path, Version: f.Version} }

// A Leader runs for leadership below Dir.
type Leader struct {
	Conn *Conn
	Dir  string // e.g. /paasta/<cluster>/leader
	Data []byte // stored in the candidate's node; readers find the leader's address there
	Log  *slog.Logger
}

// Lead waits until this process leads and then calls work, whose context ends
// when leadership is lost (the session expired, or could not be confirmed
// within its timeout). When work returns it runs for leadership again, with
// back-off, until ctx ends; then it returns nil.
func (l *Leader) Lead(ctx context.Context, work func(ctx context.Context, fence Fence) error) error {
	panic("to be written")
}

// CurrentLeader returns the data of the leader below dir; ErrNoNode when there
// is none.
func CurrentLeader(ctx context.Context, c *Conn, dir string) ([]byte, error) {
	panic("to be written")
}
