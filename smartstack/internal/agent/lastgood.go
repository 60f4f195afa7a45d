package agent

import (
	"context"
	"fmt"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
)

// goodNamespaces are the namespaces as HAProxy took them last. An agent that starts
// serves them, and keeps their ports for them, until soa-configs say something else
// that is valid: a restart during a mistake changes nothing.
type goodNamespaces struct {
	Format     int                    `json:"format"`
	Namespaces []*soaconfig.Namespace `json:"namespaces"`
}

// goodFormat is raised when what is in the file cannot be read as it was meant.
const goodFormat = 1

// restore serves what the agent before this one served. It comes before
// soa-configs are read, so what is wrong with them finds it in place.
func (a *Agent) restore(ctx context.Context) {
	good, err := a.files.lastGood.Read()
	if err == nil && good.Namespaces != nil && good.Format != goodFormat {
		err = fmt.Errorf("%s: format %d, want %d", a.files.lastGood.Path, good.Format, goodFormat)
	}
	if err != nil {
		a.log.Error("read the last good namespaces failed: only what is valid in soa-configs now is served", "err", err)
		return
	}
	all, owner := good.Namespaces, map[int]string{}
	for _, ns := range all {
		if ns == nil || ns.ProxyPort == nil {
			continue
		}
		n, err := namespaceOf(*ns, a.o.Settings, owner)
		if err == nil && !a.proxy.has(n.Registration) {
			err = free(n.Service.Bind)
		}
		if err != nil {
			a.log.Error("restore a namespace failed", "registration", ns.Service+"."+ns.Name, "err", err)
			continue
		}
		owner[n.Port] = n.Registration
		a.serve(ctx, n).good = n
	}
	for _, ns := range all {
		if ns != nil && ns.ProxyPort == nil && a.registrations[ns.Service+"."+ns.Name] == nil {
			a.serve(ctx, discover.Unproxied(*ns, a.o.Settings))
		}
	}
	a.references(a.problems)
}
