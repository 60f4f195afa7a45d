package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// Many changes that take a reload are one reload, and the next one comes no
// sooner than the interval allows.
func TestReloadsAreFewAndFarBetween(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.options.MinInterval = time.Second
	a := newBackend(t)
	h.service("web.main", nil)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	// has waits for the timeout of the first service and for n others.
	has := func(timeout time.Duration, others int) lastReload {
		t.Helper()
		want := fmt.Sprintf("\ttimeout server %dms\n", timeout.Milliseconds())
		eventually(t, func() error {
			if n := len(h.agent.Status().Registrations); n != others+1 {
				return fmt.Errorf("%d registrations, want %d", n, others+1)
			}
			if s := h.agent.Status().HAProxy; len(s.ReloadWanted) > 0 {
				return fmt.Errorf("a reload is due: %q", s.ReloadWanted)
			}
			if !strings.Contains(h.config(), want) {
				return fmt.Errorf("no %q in the config", want)
			}
			return nil
		})
		s := h.agent.Status().HAProxy
		return lastReload{s.Reloads, s.LastReload}
	}
	last := has(5*time.Second, 0)
	for round := range 2 {
		timeout := time.Duration(6000+round) * time.Millisecond
		for i := range 10 {
			h.service(fmt.Sprintf("more%d.n%d", round, i), nil)
			h.service("web.main", func(ns *soaconfig.Namespace) { ns.TimeoutServer, ns.TimeoutClient = timeout, timeout })
		}
		now := has(timeout, 10*(round+1))
		// One that had begun when the others came makes it two.
		if n := now.n - last.n; n < 1 || n > 2 {
			t.Errorf("%d reloads for a burst of 20 changes", n)
		}
		if between := now.at.Sub(last.at); between < h.options.MinInterval {
			t.Errorf("%s between two reloads, want %s at least", between, h.options.MinInterval)
		}
		last = now
	}
	h.up("web.main", a.port)
}

type lastReload struct {
	n  int
	at time.Time
}
