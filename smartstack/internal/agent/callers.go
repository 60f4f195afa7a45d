package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// callers are which service has which address on this host. HAProxy reads them
// from a file when it starts, and is told of changes.
type callers struct {
	names   map[netip.Addr]string
	known   bool // names is what somebody has told this process
	written bool // they are in the file
	told    int  // the process that has them
	again   time.Time
}

// Callers tells the agent which service has which address, so that requests
// from there carry its name. Names that HAProxy could not read are left out.
func (a *Agent) Callers(names map[netip.Addr]string) {
	names = maps.Clone(names)
	maps.DeleteFunc(names, func(ip netip.Addr, name string) bool {
		return !ip.IsValid() || ip.Zone() != "" || !haproxy.IsName(name)
	})
	a.inbox.put(func() { a.inbox.caller = names })
}

func (c *callers) read(names map[netip.Addr]string) {
	if c.known && maps.Equal(c.names, names) {
		return
	}
	*c = callers{names: names, known: true}
}

// name brings the file and HAProxy's copy of it up to date.
func (a *Agent) name(ctx context.Context, now time.Time) {
	c := &a.callers
	if !c.known || now.Before(c.again) {
		return
	}
	c.again = time.Time{}
	if c.written && (a.hap.pid == 0 || c.told == a.hap.pid || !a.mapped()) {
		return
	}
	again := now.Add(time.Second)
	addrs := slices.SortedFunc(maps.Keys(c.names), netip.Addr.Compare)
	if !c.written {
		var text strings.Builder
		for _, ip := range addrs {
			fmt.Fprintf(&text, "%s %s\n", ip, c.names[ip])
		}
		if err := haproxy.WriteFile(a.o.Settings.CallerMap, []byte(text.String()), 0o644); err != nil {
			a.log.Error("wrote which service has which address", "err", err)
			c.again = again
			return
		}
		c.written = true
	}
	if a.hap.pid == 0 || !a.mapped() {
		return
	}
	if !a.o.Global.Version.AtomicMaps() { // it reads the file at its next start
		c.told = a.hap.pid
		return
	}
	if err := a.runtime.ReplaceMap(ctx, a.hap.pid, a.o.Settings.CallerMap, addrs, c.names); err != nil {
		a.log.Warn("told HAProxy which service has which address", "err", err)
		c.again = again
		return
	}
	c.told = a.hap.pid
}

// mapped tells whether HAProxy has the map at all.
func (a *Agent) mapped() bool {
	for _, s := range a.hap.running {
		if s.Service.CallerMap != "" {
			return true
		}
	}
	return false
}
