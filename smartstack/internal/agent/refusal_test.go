package agent

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// quiet has the agent read soa-configs once more, as it does every 30 seconds
// while something is wrong, and fails the test if that is a reason for a reload.
func (h *host) quiet() {
	h.t.Helper()
	eventually(h.t, func() error { // what was asked for before is done with
		if why := h.agent.Status().HAProxy.ReloadWanted; len(why) > 0 {
			return fmt.Errorf("a reload is wanted: %s", why)
		}
		return nil
	})
	before := h.agent.Status().HAProxy
	mark := fmt.Sprintf("mark.m%d", len(h.ports))
	h.service(mark, func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	var now Status
	eventually(h.t, func() error {
		now = h.agent.Status()
		if !slices.ContainsFunc(now.Registrations, func(r RegistrationStatus) bool { return r.Name == mark }) {
			return errors.New("has not read soa-configs yet")
		}
		return nil
	})
	if p := now.HAProxy; p.Reloads != before.Reloads || len(p.ReloadWanted) > 0 {
		h.t.Errorf("nothing has changed, and HAProxy has %d reloads, then %d, and is to have another: %q", before.Reloads, p.Reloads, p.ReloadWanted)
	}
}

// What HAProxy refuses is not asked of it again and again: each time would be a
// reload of what already runs.
func TestARefusedSectionIsNotTriedAgain(t *testing.T) {
	for name, good := range map[string]bool{"left out": false, "with a good one before": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := newMemory()
			h := newHost(t, reg)
			a, b := newBackend(t), newBackend(t)
			tcp := func(ns *soaconfig.Namespace) { ns.Mode, ns.HealthcheckMode = "tcp", "tcp" }
			h.options.Settings.LogHTTP = `"%[nonsense"` // so that every section of mode http is refused
			h.service("db.main", tcp)
			if good {
				h.service("web.main", tcp)
			}
			reg.put("db.main", b.entry())
			reg.put("web.main", a.entry())
			h.start()
			h.up("db.main", b.port)
			if good {
				h.up("web.main", a.port)
			}
			h.service("web.main", nil)
			refused := func() error {
				if p := h.agent.Status().Problems["web.main"]; !strings.Contains(p, "nonsense") {
					return fmt.Errorf("problem of web.main: %q", p)
				}
				return nil
			}
			eventually(t, refused)
			for range 2 {
				h.quiet()
				if err := refused(); err != nil {
					t.Error(err)
				}
			}
			if good {
				h.up("web.main", a.port)
			}
			// What it is changed to is tried.
			h.service("web.main", func(ns *soaconfig.Namespace) { tcp(ns); ns.Retries = 2 })
			eventually(t, func() error { // with a good one before, the server is up all the time
				if p := h.agent.Status().Problems["web.main"]; p != "" {
					return fmt.Errorf("problem of web.main: %s", p)
				}
				return nil
			})
			h.up("web.main", a.port)
		})
	}
}

// What HAProxy refused as it started is tried again once its port is free.
func TestARefusedPortIsTriedAgainOnceItIsFree(t *testing.T) {
	t.Parallel()
	h := newHost(t, newMemory())
	h.service("web.main", nil)
	n, err := discover.NewNamespace(h.tree.Services["web"].Namespaces.Valid["main"], h.options.Settings)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stands := func(did string, n discover.Namespace) bool {
		return (&refusal{err: &haproxy.ConfigError{Did: did}, structure: n.Structure()}).stands(n, false, free)
	}
	if !stands(haproxy.Started, n) {
		t.Error("its port is not free, and it is tried again")
	}
	l.Close()
	if stands(haproxy.Started, n) {
		t.Error("its port is free, and it is not tried again")
	}
	if !stands(haproxy.Checked, n) {
		t.Error("a port has nothing to do with what a check refuses")
	}
	changed := n
	changed.Service.Retries++
	if (&refusal{err: &haproxy.ConfigError{Did: haproxy.Checked}, structure: n.Structure()}).stands(changed, false, free) {
		t.Error("it says something else now, and is not tried")
	}
}
