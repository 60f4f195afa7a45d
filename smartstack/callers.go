package smartstack

import (
	"context"
	"net/netip"
	"time"

	"github.com/gopaasta/paasta/paasta/rungroup"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
)

// callersEvery is how often the tasks of this host are listed, so that HAProxy
// can say which service a request comes from.
const callersEvery = 2 * time.Second

// callers tells the agent which service has which address. While the list
// cannot be had, what was known stays.
func callers(o Options, a *agent.Agent) func(context.Context) error {
	return rungroup.Every(callersEvery, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		local, err := o.LocalTasks(ctx)
		if err != nil {
			o.Log.Debug("list local tasks failed", "err", err) // the clean-up warns
			return
		}
		a.Callers(callerNames(local.Tasks))
	})
}

// callerNames returns "service.instance" by the address of its container. An
// address that two tasks have says nothing.
func callerNames(tasks []LocalTask) map[netip.Addr]string {
	names := map[netip.Addr]string{}
	for _, t := range tasks {
		ip, err := netip.ParseAddr(t.IP)
		if err != nil || t.Service == "" || t.IP == t.Host {
			continue
		}
		name := t.Service + "." + t.Instance
		if other, ok := names[ip]; ok && other != name {
			name = ""
		}
		names[ip] = name
	}
	for ip, name := range names {
		if name == "" {
			delete(names, ip)
		}
	}
	return names
}
