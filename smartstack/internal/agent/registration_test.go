package agent

import (
	"testing"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A health check that is corrected reaches the servers that wait for it.
func TestProbesByTheCheckOfNow(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	a, b := newBackend(t), newBackend(t)
	b.sick.Store(true) // at /status, and nowhere else
	h.service("web.main", nil)
	reg.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port)
	h.probing("web.main", b.port, "503")
	h.service("web.main", func(ns *soaconfig.Namespace) { ns.HealthcheckURI = "/right" })
	h.up("web.main", a.port, b.port)
}
