package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A lastGoodFile holds the namespaces as HAProxy took them last. An agent that
// starts serves them, and keeps their ports for them, until soa-configs say
// something else that is valid: a restart during a mistake changes nothing.
type lastGoodFile struct {
	path    string
	written []byte // what it holds; nil when nobody knows
}

// lastGoodFormat is raised when what is in the file cannot be read as it was meant.
const lastGoodFormat = 1

type lastGoodNamespaces struct {
	Format     int                    `json:"format"`
	Namespaces []*soaconfig.Namespace `json:"namespaces"`
}

func (f *lastGoodFile) read() ([]*soaconfig.Namespace, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all lastGoodNamespaces
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err == nil && all.Format != lastGoodFormat {
		err = fmt.Errorf("format %d, want %d", all.Format, lastGoodFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("read the last good namespaces: %s: %w", f.path, err)
	}
	return all.Namespaces, nil
}

// write replaces what the file holds, if it holds something else.
func (f *lastGoodFile) write(all []*soaconfig.Namespace) error {
	text, err := json.Marshal(lastGoodNamespaces{lastGoodFormat, all})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	if bytes.Equal(text, f.written) {
		return nil
	}
	f.written = nil
	if err := haproxy.WriteFile(f.path, text, 0o600); err != nil {
		return err
	}
	f.written = text
	return nil
}

// restore serves what the agent before this one served. It comes before
// soa-configs are read, so what is wrong with them finds it in place.
func (a *Agent) restore(ctx context.Context) {
	all, err := a.files.lastGood.read()
	if err != nil {
		a.log.Error("read the last good namespaces failed: only what is valid in soa-configs now is served", "err", err)
		return
	}
	owner := map[int]string{}
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
