package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// callers are which service has which address on this host. HAProxy reads them
// from a file when it starts, and is told of changes.
type callers struct {
	path    string // of the file
	names   map[netip.Addr]string
	known   bool // names is what somebody has told this process
	written bool // they are in the file
	told    int  // the process that has them
	again   time.Time
}

// valid leaves out what HAProxy could not read.
func valid(names map[netip.Addr]string) map[netip.Addr]string {
	names = maps.Clone(names)
	maps.DeleteFunc(names, func(ip netip.Addr, name string) bool {
		return !ip.IsValid() || ip.Zone() != "" || !haproxy.IsName(name)
	})
	return names
}

// isCallerMap tells whether HAProxy can read the text of a map of callers.
func isCallerMap(text string) bool {
	for line := range strings.Lines(text) {
		ip, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := netip.ParseAddr(ip); err != nil || !haproxy.IsName(name) {
			return false
		}
	}
	return true
}

func (c *callers) set(names map[netip.Addr]string) {
	if !c.known || !maps.Equal(c.names, names) {
		*c = callers{path: c.path, names: names, known: true}
	}
}

// apply brings the file and HAProxy's copy of it up to date.
func (c *callers) apply(ctx context.Context, p *proxy, now time.Time) {
	if !c.known || now.Before(c.again) {
		return
	}
	c.again = time.Time{}
	inform := p.pid != 0 && c.told != p.pid && p.hasCallerMap()
	if c.written && !inform {
		return
	}
	addrs := slices.SortedFunc(maps.Keys(c.names), netip.Addr.Compare)
	if !c.written {
		var text strings.Builder
		for _, ip := range addrs {
			fmt.Fprintf(&text, "%s %s\n", ip, c.names[ip])
		}
		if err := atomicfile.Write(c.path, []byte(text.String()), 0o644); err != nil {
			p.log.Error("write which service has which address failed", "err", err)
			c.again = now.Add(time.Second)
			return
		}
		c.written = true
	}
	if !inform {
		return
	}
	if p.global.Version.AtomicMaps() { // else it reads the file at its next start
		if err := p.runtime.ReplaceMap(ctx, p.pid, c.path, addrs, c.names); err != nil {
			p.log.Warn("tell HAProxy which service has which address failed", "err", err)
			c.again = now.Add(time.Second)
			return
		}
	}
	c.told = p.pid
}
