package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// oneNameEach is where HAProxy begins to refuse a frontend and a backend of one
// name.
var oneNameEach = haproxy.Version{Major: 3, Minor: 3}

// version is which HAProxy the tests run with.
func (h *host) version() haproxy.Version {
	h.t.Helper()
	v, _, err := h.options.Process.Version(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// before gives HAProxy the config that an agent before this one would have
// written: its frontends have the names of their backends, and its structure
// another hash.
func (h *host) before() {
	h.t.Helper()
	text := strings.ReplaceAll(h.config(), haproxy.FrontendSuffix, "")
	text = regexp.MustCompile(`description "paasta smartstack \w+"`).ReplaceAllString(text, `description "paasta smartstack 0123456789abcdef"`)
	if err := h.options.Process.Write([]byte(text)); err != nil {
		h.t.Fatal(err)
	}
}

// An agent adopts the HAProxy of an agent before it, whose frontends and backends
// share their names: it takes one reload, and no request is lost.
func TestAdoptsTheNamesOfBefore(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	if v := h.version(); !v.Before(oneNameEach) {
		t.Skipf("HAProxy %s runs with no such config", v)
	}
	h.service("web.main", nil)
	h.service("api.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	reg.put("web.main", a.entry(), b.entry(weight(0)))
	reg.put("api.main", c.entry())
	h.start()
	h.up("web.main", a.port)
	h.up("api.main", c.port)
	h.stop()
	h.before()
	old, ok, err := h.options.Process.Running(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	pid, err := h.options.Process.Start(t.Context(), old.PID)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		in, _, err := h.options.Process.Running(t.Context())
		if err == nil && in.PID != pid {
			err = fmt.Errorf("%d answers, not %d", in.PID, pid)
		}
		return err
	})
	stop := loadMixed(h, "web.main", 4)
	h.start()
	eventually(t, func() error {
		s := h.agent.Status().HAProxy
		if s.PID == pid || s.Reloads != 1 || len(s.ReloadWanted) > 0 || !strings.Contains(s.LastReloadWhy, "adopted") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	h.up("web.main", a.port)
	h.up("api.main", c.port)
	if text := h.config(); !strings.Contains(text, "frontend web.main:frontend\n") || !strings.Contains(text, "backend web.main\n") {
		t.Errorf("names in the config:\n%s", text)
	}
	reg.put("web.main", a.entry(), b.entry()) // and members change without another one
	h.up("web.main", a.port, b.port)
	sent, failures := stop()
	unharmed(t, sent, failures)
	if n := h.reloads(); n != 1 {
		t.Errorf("%d reloads", n)
	}
}

// After an upgrade that HAProxy does not take the last config after, and a
// reboot, the host serves all the same.
func TestTheLastConfigIsRefused(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	h.stop()
	if err := h.options.Process.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := h.config() + "\nbackend twice\nbackend twice\n" // as the old names are to HAProxy 3.3
	if err := h.options.Process.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.up("web.main", a.port)
	if resp, err := http.Get(h.url("web.main")); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v %v", resp, err)
	}
}

// What an operator wrote worked with the HAProxy of before, and this one refuses
// it. Nothing serves, so the services come without it, and the problem is named.
func TestOperatorsSectionsOfAnOlderHAProxy(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	own := httptest.NewServer(http.NotFoundHandler())
	defer own.Close()
	port := freePort(t)
	good := fmt.Sprintf("listen mine\n\tbind 127.0.0.1:%d\n\tserver one %s\n", port, own.Listener.Addr())
	bad := "backend twice\n\nbackend twice\n\n" + good
	if err := os.WriteFile(filepath.Join(h.options.Process.Dir, "custom_config.good"), []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	text := bad
	h.options.Custom = func() (string, error) { return text, nil }
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	eventually(t, func() error {
		if p := h.agent.Status().Problems["custom_config"]; !strings.Contains(p, "twice") {
			return fmt.Errorf("problem %q", p)
		}
		return nil
	})
	h.stop()
	text = good
	h.start()
	eventually(t, func() error {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if p := h.agent.Status().Problems; len(p) > 0 {
		t.Errorf("problems: %q", p)
	}
}

// says makes a HAProxy that says that it has another version.
func (h *host) says(version string) {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "haproxy")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$*\" = -v ]; then echo 'HAProxy version %s 2026/01/01 - https://haproxy.org/'; exit; fi\nexec %s \"$@\"\n", version, h.options.Process.Binary)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.options.Process.Binary = path
}

// A HAProxy that cannot pass its listeners on is refused, with what is needed.
func TestAHAProxyThatIsTooOld(t *testing.T) {
	h := newHost(t, newMemory())
	h.says("1.7.14-1")
	h.options.Metrics = NewMetrics(prometheus.NewRegistry())
	err := New(h.options).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "1.7.14-1") || !strings.Contains(err.Error(), "1.8 or later") {
		t.Errorf("error %v", err)
	}
}

// A version that is newer than the tests is named once, and no more than that.
func TestANewerHAProxyIsNamedOnce(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	if h.version() != haproxy.Tested[len(haproxy.Tested)-1] {
		t.Skip("only the newest takes the config of one that is newer")
	}
	h.says("9.1.0-1")
	var log syncBuffer
	h.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	reg.put("web.main", a.entry(), b.entry())
	h.up("web.main", a.port, b.port)
	text := log.String()
	if n := strings.Count(text, "newer than those that were tested"); n != 1 || !strings.Contains(text, "9.1.0-1") || strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
		t.Errorf("said %d times:\n%s", n, text)
	}
	if v := h.agent.Status().HAProxy.Version; v != "9.1.0-1" {
		t.Errorf("status says version %q", v)
	}
}

// HAProxy that was not there when the agent started is asked again.
func TestTheVersionIsAskedUntilItIsKnown(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	real := h.options.Process.Binary
	h.options.Process.Binary = filepath.Join(t.TempDir(), "haproxy")
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	eventually(t, func() error {
		if h.agent.Status().HAProxy.ReloadError == "" {
			return errors.New("no reload failed")
		}
		return nil
	})
	if err := os.Symlink(real, h.options.Process.Binary); err != nil {
		t.Fatal(err)
	}
	h.up("web.main", a.port)
	want, full, err := haproxy.Process{Binary: real}.Version(context.Background())
	if s := h.agent.Status().HAProxy; err != nil || s.Version != full || s.DynamicServers != want.Dynamic() {
		t.Errorf("%+v, want %s", s, full)
	}
}
