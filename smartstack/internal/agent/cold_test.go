package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A host that has never served puts in what the registry names at once, and
// tells HAProxy what its probes find then. Later, a probe comes first.
func TestColdStart(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a, sick, late := newBackend(t), newBackend(t), newBackend(t)
	sick.sick.Store(true)
	late.sick.Store(true)
	reg.put("web.main", a.entry(), sick.entry())
	h.start()
	h.up("web.main", a.port)
	status := func(b *backend) string {
		found := "none"
		err := h.options.Process.Runtime().EachRow(t.Context(), h.agent.Status().HAProxy.PID, func(r haproxy.Row) {
			if strings.HasSuffix(r.Server, fmt.Sprintf(":%d", b.port)) {
				found = r.Status
			}
		})
		if err != nil {
			return err.Error()
		}
		return found
	}
	is := func(b *backend, want string) {
		t.Helper()
		eventually(t, func() error {
			if got := status(b); !strings.HasPrefix(got, want) {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}
	is(sick, "DOWN")
	probing := func(b *backend) bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		answer, _ := h.agent.Backends(ctx, "web.main", -1)
		for _, x := range answer.Backends {
			if x.Port == b.port {
				return x.Status == "PROBING" && !x.Up
			}
		}
		return false
	}
	if !probing(sick) {
		t.Error("a server whose probe has not passed counts as up")
	}
	reg.put("web.main", a.entry(), sick.entry(), late.entry())
	eventually(t, func() error {
		if !probing(late) {
			return fmt.Errorf("not seen yet")
		}
		return nil
	})
	if got := status(late); got != "none" {
		t.Errorf("a server that came later is %q before its probe passed", got)
	}
	sick.sick.Store(false)
	is(sick, "UP")
	h.up("web.main", a.port, sick.port)
	late.sick.Store(false)
	h.up("web.main", a.port, sick.port, late.port)
	if n := h.reloads(); n != 1 {
		t.Errorf("%d reloads, want the first start alone", n)
	}
}
