// Package discover decides which servers a namespace has on this host: from
// what soa-configs and the registry say, and from what was there before. It is
// pure but for Watcher, which reads the registry.
package discover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// An Entry is an entry of the registry that can become a server.
type Entry struct {
	Node    *registry.Node // of the set that it was read in, and never changed
	Addr    netip.AddrPort
	Named   bool   // its host is a name, which may have another address tomorrow
	Name    string // HAProxy's server name
	Weight  int    // 0 means draining
	Options haproxy.Options
}

// A Lookup returns the address of a host that an entry gives by name.
type Lookup func(host string) (netip.Addr, error)

// Entries returns the entries of a set by address, and by path what is wrong
// with those that cannot be servers. For two entries at one address the newest
// node wins. lookup is asked for each of Hosts.
func Entries(set registry.Set, lookup Lookup) (map[netip.AddrPort]Entry, map[string]error) {
	entries := make(map[netip.AddrPort]Entry, len(set.Nodes))
	bad := make(map[string]error, len(set.Bad))
	maps.Copy(bad, set.Bad)
	for i := range set.Nodes {
		n := &set.Nodes[i]
		e, err := entry(n, lookup)
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

func newer(a, b *registry.Node) bool {
	return a.Czxid > b.Czxid || a.Czxid == b.Czxid && a.Path > b.Path
}

// Hosts returns, sorted, the hosts of a set that are names to look up, as
// nerve's own entries may have them.
func Hosts(set registry.Set) []string {
	var hosts []string
	for _, n := range set.Nodes {
		if _, err := parse(n.Host); err != nil && isName(n.Host) {
			hosts = append(hosts, n.Host)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// parse reads an address. localhost is one, whatever DNS says.
func parse(host string) (netip.Addr, error) {
	if strings.EqualFold(host, "localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	return netip.ParseAddr(host)
}

// isName tells whether a host can be a name, and not an address gone wrong,
// whose last part would be a number.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	last := ""
	for last = range strings.SplitSeq(host, ".") {
		if last == "" || len(last) > 63 || strings.ContainsFunc(last, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return strings.Trim(last, "0123456789") != ""
}

func address(host string, lookup Lookup) (ip netip.Addr, named bool, err error) {
	ip, err = parse(host)
	named = err != nil
	if named {
		if !isName(host) {
			return ip, named, fmt.Errorf("host %q is neither an IP address nor a name", clip(host))
		}
		if ip, err = lookup(host); err != nil {
			return ip, named, fmt.Errorf("host %q has no address: %w", clip(host), err)
		}
	}
	if ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return ip, named, fmt.Errorf("host %q: %s is no address of a host", clip(host), ip)
	}
	return ip, named, nil
}

func entry(n *registry.Node, lookup Lookup) (Entry, error) {
	ip, named, err := address(n.Host, lookup)
	if err != nil {
		return Entry{}, err
	}
	if n.Port < 1 || n.Port > 65535 {
		return Entry{}, fmt.Errorf("port %d is not between 1 and 65535", n.Port)
	}
	addr := netip.AddrPortFrom(ip.Unmap(), uint16(n.Port))
	e := Entry{Node: n, Addr: addr, Named: named, Weight: min(max(n.Weight, 0), haproxy.MaxWeight), Name: serverName(n.Name, addr)}
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
	o, _ := readOptions(text, weight)
	return o
}

// Ignored returns the words of nerve's haproxy_server_options that are left out.
func Ignored(text string) []string {
	var weight int
	_, ignored := readOptions(text, &weight)
	return ignored
}

func readOptions(text string, weight *int) (o haproxy.Options, ignored []string) {
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		number := func(low, high int) (int, bool) {
			if i+1 == len(words) {
				return 0, false
			}
			n, err := strconv.Atoi(words[i+1])
			return n, err == nil && n >= low && n <= high
		}
		n, ok := 0, false
		switch words[i] {
		case "backup":
			o.Backup = true
			continue
		case "maxconn":
			if n, ok = number(1, 1_000_000); ok {
				o.MaxConn = n
			}
		case "maxqueue":
			if n, ok = number(1, 1_000_000); ok {
				o.MaxQueue = n
			}
		case "weight":
			if n, ok = number(0, haproxy.MaxWeight); ok && *weight != 0 {
				*weight = n
			}
		}
		if ok {
			i++ // its number
			continue
		}
		ignored = append(ignored, words[i])
	}
	return o, ignored
}
