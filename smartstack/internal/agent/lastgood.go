package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A goodFile holds the namespaces as HAProxy took them last. An agent that
// starts serves them, and keeps their ports for them, until soa-configs say
// something else that is sound: a restart during a mistake changes nothing.
type goodFile struct {
	path    string
	written []byte // what it holds; nil when nobody knows
}

// goodFormat is raised when what is in the file cannot be read as it was meant.
const goodFormat = 1

type goodNamespaces struct {
	Format     int                    `json:"format"`
	Namespaces []*soaconfig.Namespace `json:"namespaces"`
}

func (g *goodFile) read() ([]*soaconfig.Namespace, error) {
	text, err := os.ReadFile(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last good namespaces: %w", err)
	}
	var all goodNamespaces
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read the last good namespaces: %s: %w", g.path, err)
	}
	if all.Format != goodFormat {
		return nil, fmt.Errorf("read the last good namespaces: %s: format %d, want %d", g.path, all.Format, goodFormat)
	}
	return all.Namespaces, nil
}

// write replaces what the file holds, if it holds something else.
func (g *goodFile) write(all []*soaconfig.Namespace) error {
	text, err := json.Marshal(goodNamespaces{goodFormat, all})
	if err != nil {
		return fmt.Errorf("write %s: %w", g.path, err)
	}
	if bytes.Equal(text, g.written) {
		return nil
	}
	g.written = nil
	if err := haproxy.WriteFile(g.path, text, 0o600); err != nil {
		return err
	}
	g.written = text
	return nil
}

// restore serves what the agent before this one served. It comes before
// soa-configs are read, so what is wrong with them finds it in place.
func (a *Agent) restore(ctx context.Context) {
	all, err := a.files.good.read()
	if err != nil {
		a.log.Error("read the last good namespaces failed: only what is sound in soa-configs now is served", "err", err)
		return
	}
	owner := map[int]string{}
	for _, ns := range all {
		if ns == nil || ns.ProxyPort == nil {
			continue
		}
		n, err := discover.NewNamespace(*ns, a.o.Settings)
		if other, taken := owner[n.Port]; err == nil && taken {
			err = fmt.Errorf("proxy_port %d belongs to %s", n.Port, other)
		}
		if err == nil && !a.hap.has(n.Registration) {
			err = free(n.Service.Bind)
		}
		if err != nil {
			a.log.Error("restore a namespace failed", "registration", ns.Service+"."+ns.Name, "err", err)
			continue
		}
		owner[n.Port] = n.Registration
		a.serve(ctx, wanted{n, true}).good = n
	}
	for _, ns := range all {
		if ns != nil && ns.ProxyPort == nil && a.registrations[ns.Service+"."+ns.Name] == nil {
			a.serve(ctx, wanted{namespace: discover.Unproxied(*ns, a.o.Settings)})
		}
	}
	a.references()
}

// goodWriter returns what writes the namespaces as they are served.
func (a *Agent) goodWriter() func() {
	all := make([]*soaconfig.Namespace, 0, len(a.registrations))
	for _, name := range slices.Sorted(maps.Keys(a.registrations)) {
		r := a.registrations[name]
		run := a.hap.running[name]
		switch {
		case !r.proxied || run != nil && r.section != nil && !r.stale && r.section.Structure == run.Structure:
			all = append(all, r.namespace.Source)
		case r.good.Source != nil:
			all = append(all, r.good.Source)
		}
	}
	return func() {
		err := a.files.good.write(all)
		if err != nil {
			a.log.Error("write the last good namespaces failed", "err", err)
		}
		a.files.wrote(filepath.Base(a.files.good.path), err, func() { a.files.goodFailed.Store(true) })
	}
}
