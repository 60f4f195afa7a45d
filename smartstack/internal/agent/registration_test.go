package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/registry"
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

// What the registry does not name any more, undrained, stays until it is down,
// also where no HAProxy looks.
func TestWhatIsOnlyDiscoveredGoesOnceItIsDown(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	h.options.SynapseDir = t.TempDir()
	alive, dead := newBackend(t), newBackend(t)
	h.service("db.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	reg.put("db.main", alive.entry(), dead.entry())
	h.start()
	listed := func(want ...*backend) {
		t.Helper()
		eventually(t, func() error {
			text, err := os.ReadFile(filepath.Join(h.options.SynapseDir, "db.main.json"))
			if err != nil {
				return err
			}
			for _, b := range want {
				if !strings.Contains(string(text), fmt.Sprintf(`"port":%d,`, b.port)) {
					return fmt.Errorf("%d is not in %s", b.port, text)
				}
			}
			if n := strings.Count(string(text), `"port":`); n != len(want) {
				return fmt.Errorf("want %d servers: %s", len(want), text)
			}
			return nil
		})
	}
	listed(alive, dead)
	dead.srv.Close()
	reg.put("db.main")
	listed(alive)
	alive.srv.Close()
	listed()
	reg.put("db.main", registry.Entry{Host: "127.0.0.1", Port: alive.port, Weight: 10}) // it is taken at its word
	listed(alive)
}
