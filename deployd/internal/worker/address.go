package worker

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/marathon"
)

// addresses remembers what the names of hosts resolve to. Mesos may know its
// agents by name; HAProxy and the agents' questions need an address, and always
// the same one.
type addresses struct {
	mu    sync.Mutex
	known map[string]addressNote
}

type addressNote struct {
	address string
	until   time.Time
}

const (
	addressFresh  = 10 * time.Minute
	lookupTimeout = 2 * time.Second
	lookupAgain   = 10 * time.Second // after a failure
)

// of returns the address of a host: the host itself when it is one, or when its
// name cannot be resolved and never could.
func (a *addresses) of(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	a.mu.Lock()
	note, ok := a.known[host]
	a.mu.Unlock()
	if ok && time.Now().Before(note.until) {
		return note.address
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	switch {
	case err == nil && len(found) > 0:
		// The lowest, since the order of answers means nothing.
		note = addressNote{slices.MinFunc(found, netip.Addr.Compare).Unmap().String(), time.Now().Add(addressFresh)}
	case ok:
		note.until = time.Now().Add(lookupAgain) // what it was stands
	default:
		note = addressNote{host, time.Now().Add(lookupAgain)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = map[string]addressNote{}
	}
	a.known[host] = note
	return note.address
}

// host is the address under which a task is registered.
func (r *round) host(t marathon.Task) string { return r.addresses.of(t.IP) }
