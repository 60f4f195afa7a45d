package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// HAProxy does not start when it may not open the files that it could need. It
// gets as many connections as fit, which is said once, and serves.
func TestAsManyConnectionsAsFilesSuffice(t *testing.T) {
	paastatest.NeedRoot(t)
	setpriv := paastatest.Need(t, "setpriv")
	prlimit := paastatest.Need(t, "prlimit")
	const files = 1500
	reg := newMemory()
	h := newHost(t, reg)
	limited := filepath.Join(t.TempDir(), "haproxy")
	script := fmt.Sprintf("#!/bin/sh\nexec %s --nofile=%d:%d %s --bounding-set=-sys_resource --inh-caps=-sys_resource %s \"$@\"\n", prlimit, files, files, setpriv, h.options.Process.Binary)
	if err := os.WriteFile(limited, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h.options.Process.Binary = limited
	h.options.Global.MaxConn, h.options.Global.Files = 8000, files
	var log syncBuffer
	h.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	h.service("web.main", nil)
	h.service("api.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	reg.put("api.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	h.service("web.main", timeouts(patience)) // a reload
	eventually(t, func() error {
		if n := h.reloads(); n != 2 {
			return fmt.Errorf("%d reloads", n)
		}
		return nil
	})
	h.up("web.main", a.port)
	in, err := h.agent.Info(t.Context())
	if s := h.agent.Status().HAProxy; err != nil || in.MaxConn != s.MaxConn || s.MaxConn < 300 || s.MaxConn > files/2 || s.MaxConnWanted != 8000 {
		t.Errorf("takes %d connections, %v; status %+v", in.MaxConn, err, s)
	}
	if n := strings.Count(log.String(), "fewer connections than smartstack.maxconn"); n != 1 || !strings.Contains(log.String(), "LimitNOFILE") {
		t.Errorf("said %d times, want once:\n%s", n, log.String())
	}
}
