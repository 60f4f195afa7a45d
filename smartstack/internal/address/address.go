// Package address knows this host's addresses and the connections to them: it
// puts the link-local address of the proxies on lo, and counts who is connected
// to a task.
package address

import (
	"net"
	"net/netip"
	"slices"
)

// Ours returns the addresses by which entries of the registry may name this
// host: all but loopback and link-local ones.
func Ours() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var ours []string
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if ip := p.Addr(); !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() {
			ours = append(ours, ip.String())
		}
	}
	slices.Sort(ours)
	return slices.Compact(ours)
}
