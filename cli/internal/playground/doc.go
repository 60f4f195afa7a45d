// Package playground runs the whole platform on one machine: a real ZooKeeper,
// registry, Docker engine and HAProxy, and our daemons, in a network namespace
// of their own, so that fixed ports never meet the host's and removing it
// leaves nothing. What a person needs is forwarded to the host's loopback.
//
// A playground is a directory. Up makes it or completes it, Down removes it and
// everything that belongs to it, whatever state it is in. In between, a
// supervisor keeps its daemons alive; when the supervisor dies they go on, and
// the next Up adopts them.
//
// Only the commands of package cli use it. It needs Linux and root.
package playground
