// Package discover decides which servers a namespace has on this host: from
// what soa-configs and the registry say, and from what was there before. It is
// pure but for Watcher, which reads the registry.
package discover

import (
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// An Entry is an entry of the registry that can become a server.
type Entry struct {
	Node    registry.Node
	Addr    netip.AddrPort
	Name    string // HAProxy's server name
	Weight  int    // 0 means draining
	Options haproxy.Options
}

// Entries returns the entries of a set by address, and by path what is wrong
// with those that cannot be servers. For two entries at one address the newest
// node wins.
func Entries(set registry.Set) (map[netip.AddrPort]Entry, map[string]error) {
	entries := make(map[netip.AddrPort]Entry, len(set.Nodes))
	bad := make(map[string]error, len(set.Bad))
	maps.Copy(bad, set.Bad)
	for _, n := range set.Nodes {
		e, err := entry(n)
		if err != nil {
			bad[n.Path] = err
			continue
		}
		if other, ok := entries[e.Addr]; !ok || newer(n, other.Node) {
			entries[e.Addr] = e
		}
	}
	return entries, bad
}

func newer(a, b registry.Node) bool {
	return a.Czxid > b.Czxid || a.Czxid == b.Czxid && a.Path > b.Path
}

func entry(n registry.Node) (Entry, error) {
	host := n.Host
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return Entry{}, fmt.Errorf("host %q is no IP address", clip(n.Host))
	}
	if n.Port < 1 || n.Port > 65535 {
		return Entry{}, fmt.Errorf("port %d is not between 1 and 65535", n.Port)
	}
	addr := netip.AddrPortFrom(ip.Unmap(), uint16(n.Port))
	e := Entry{Node: n, Addr: addr, Weight: min(max(n.Weight, 0), haproxy.MaxWeight), Name: serverName(n.Name, addr)}
	e.Options = options(n.ServerOptions, &e.Weight)
	return e, nil
}

// serverName is the originals': <name>_<ip>:<port>, or <ip>:<port>.
func serverName(name string, addr netip.AddrPort) string {
	at := addr.Addr().String() + ":" + strconv.Itoa(int(addr.Port()))
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, clip(name))
	if name == "" {
		return at
	}
	return name + "_" + at
}

func clip(s string) string { return s[:min(len(s), 100)] }

// options reads what we know of nerve's haproxy_server_options; all else is
// left out. A weight in it changes weight, as HAProxy would have it.
func options(text string, weight *int) haproxy.Options {
	var o haproxy.Options
	words := strings.Fields(text)
	for i, w := range words {
		number := func(low, high int) (int, bool) {
			if i+1 == len(words) {
				return 0, false
			}
			n, err := strconv.Atoi(words[i+1])
			return n, err == nil && n >= low && n <= high
		}
		switch w {
		case "backup":
			o.Backup = true
		case "maxconn":
			if n, ok := number(1, 1_000_000); ok {
				o.MaxConn = n
			}
		case "maxqueue":
			if n, ok := number(1, 1_000_000); ok {
				o.MaxQueue = n
			}
		case "weight":
			if n, ok := number(0, haproxy.MaxWeight); ok && *weight != 0 {
				*weight = n
			}
		}
	}
	return o
}
