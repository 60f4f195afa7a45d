// Package registry keeps, for each registration, the set of its entries: which
// host and port serve it. deployd and the nerve half of smartstack write it,
// the synapse half of smartstack reads it. The bytes are those of nerve, so the
// original tools and ours are interchangeable.
package registry

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
)

// DefaultWeight is the weight of an entry that carries none.
const DefaultWeight = 10

// Root is the znode below which registrations live.
const Root = "/smartstack/global"

// An Entry is one backend of a registration, as nerve writes it.
type Entry struct {
	Host string
	Port int
	Name string // nerve's instance_id: the machine's host name, or the agent's
	// Weight is 10 when absent in the bytes; 0 is always written and means
	// draining.
	Weight int
	Labels map[string]string // location ("region:x" → ""), and the Label… keys below
	// ServerOptions is nerve's haproxy_server_options. It is never copied into a
	// config as it is.
	ServerOptions string
}

// Labels that our own entries carry besides their location.
const (
	LabelCluster   = "paasta_cluster"  // owner: only deployd of this cluster changes the entry
	LabelInstance  = "paasta_instance" // instance name, without the service
	LabelGitSHA    = "git_sha"         // full commit
	LabelConfigSHA = "config_sha"      // "config" and 8 hex digits
	LabelTaskID    = "task_id"         // Marathon's
)

// A Node is an entry with the znode that carries it.
type Node struct {
	Entry
	Path string // full znode path
	// Czxid is the creation order: for two nodes with one host:port the newest
	// wins. It is 0 for a path-encoded node that is alone with its
	// host:port, since it would cost a read.
	Czxid int64
	// Text is the entry as the data has it; "" for a path-encoded node, whose name
	// has it.
	Text string
}

// JSON returns the entry as whoever wrote it did.
func (n Node) JSON() []byte {
	if text, ok := decodeName(path.Base(n.Path)); ok {
		return text
	}
	if n.Text != "" {
		return []byte(n.Text)
	}
	return Encode(n.Entry)
}

// InName tells whether the node's name holds its entry.
func (n Node) InName() bool {
	return n.Text == "" && strings.HasPrefix(strings.TrimPrefix(path.Base(n.Path), drainPrefix), pathPrefix)
}

// Draining tells whether the original synapse leaves the node out: it drains.
func (n Node) Draining() bool { return strings.HasPrefix(path.Base(n.Path), drainPrefix) }

// A Set is all that one read of a registration saw. It is shared with other
// readers, so nobody changes it.
type Set struct {
	Nodes []Node
	// Version is the pzxid of the registration's znode at that read: it grows
	// with every child that comes or goes. An agent that publishes Version has
	// applied everything up to it. 0 when the znode does not exist.
	Version int64
	// Bad holds the children that are no entries, by path. They change nothing
	// for the others.
	Bad map[string]error
}

// A Registry is the contract between those who register and those who
// discover; package registrytest holds every implementation to it.
type Registry interface {
	// List reads the entries of a registration, ordered by host, port, path. A
	// registration that does not exist is an empty Set and no error.
	List(ctx context.Context, registration string) (Set, error)
	// Registrations lists the registrations that exist, sorted.
	Registrations(ctx context.Context) ([]string, error)
	// Apply makes all changes in one transaction: every node in remove is
	// deleted (one that is gone already is no error) and every entry in add is
	// created as a persistent path-encoded node (one that is there already is no
	// error). A changed weight is a remove and an add in one Apply. Some hundred
	// changes fit into one transaction; more are made in several, in which what
	// is added comes before what is removed. An entry that Check refuses fails
	// the whole Apply.
	Apply(ctx context.Context, registration string, add []Entry, remove []Node) error
	// Watch makes the registry call wake whenever List might answer differently
	// than it last did, also after the connection came back, until shortly after
	// ctx ended. wake must not block. Watch returns at once and calls wake at once, so
	// that the receiver lists for the first time; it may be called when nothing has changed. It is
	// List that sets the watch: a receiver whose List fails tries again until it
	// works, or hears of nothing more but a reconnect.
	Watch(ctx context.Context, registration string, wake func()) error
}

// Sort puts nodes into the order of List: by host, port, path.
func Sort(nodes []Node) {
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), strings.Compare(a.Path, b.Path))
	})
}
