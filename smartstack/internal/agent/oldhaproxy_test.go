package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// With a HAProxy before 2.6 every change is a reload: one for many at once, and
// none of them harms a request. It is said once, loudly.
func TestAnOldHAProxyReloadsForEveryChange(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	old := filepath.Join(t.TempDir(), "haproxy")
	// It says that it is old; it is not, so nothing but what the agent does keeps
	// it from adding servers.
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$*\" = -v ]; then echo 'HAProxy version 2.4.22-f8e3218 2023/02/14 - https://haproxy.org/'; exit; fi\nexec %s \"$@\"\n", h.options.Process.Binary)
	if err := os.WriteFile(old, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h.options.Process.Binary = old
	var log syncBuffer
	h.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	h.service("web.main", nil)
	h.service("api.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	reg.put("api.main", c.entry())
	h.start()
	h.up("web.main", a.port)
	h.up("api.main", c.port)
	stop := load(t, h.url("web.main"), 2)
	for _, change := range []struct {
		name    string
		entries []registry.Entry
		up      []int
	}{
		{"a server more", []registry.Entry{a.entry(), b.entry()}, []int{a.port, b.port}},
		{"another weight", []registry.Entry{a.entry(weight(20)), b.entry(weight(30))}, []int{a.port, b.port}},
		{"one drains", []registry.Entry{a.entry(weight(0)), b.entry()}, []int{b.port}},
		{"one less", []registry.Entry{a.entry()}, []int{a.port}},
	} {
		before := h.reloads()
		reg.put("web.main", change.entries...)
		h.up("web.main", change.up...)
		eventually(t, func() error {
			s := h.agent.Status().HAProxy
			if s.Reloads == before || len(s.ReloadWanted) > 0 {
				return fmt.Errorf("%s: %d reloads, then %d, and wanted %q", change.name, before, s.Reloads, s.ReloadWanted)
			}
			if s.DynamicServers || !strings.Contains(s.LastReloadWhy, "web.main") {
				return fmt.Errorf("%s: %+v", change.name, s)
			}
			return nil
		})
	}
	sent, failures := stop()
	unharmed(t, sent, failures)
	if n := strings.Count(log.String(), "cannot add servers at run time"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, log.String())
	}
	if text := log.String(); strings.Contains(text, "changed a server") {
		t.Errorf("servers were changed at run time:\n%s", text)
	}
}

// A client that stays keeps the old process for as long as hard-stop-after
// says, and meanwhile shows in how many there are.
func TestOldProcessesAreBounded(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.options.Global.HardStop = 2 * time.Second
	h.service("web.main", nil)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			<-r.Context().Done() // until HAProxy gives up
		}
	}))
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	reg.put("web.main", registry.Entry{Host: "127.0.0.1", Port: port, Weight: 10})
	h.start()
	h.up("web.main", port)
	first := h.agent.Status().HAProxy.PID
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", h.ports["web.main"]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	h.service("web.main", timeouts(2*time.Minute)) // long enough for the request
	eventually(t, func() error {
		if s := h.agent.Status().HAProxy; s.PID == first || len(s.Processes) != 2 || !slices.Contains(s.Processes, first) {
			return fmt.Errorf("want a new process beside %d: %+v", first, s)
		}
		return nil
	})
	if rows := collected(t, h.agent, "smartstack_haproxy_processes"); rows != 2 {
		t.Errorf("smartstack_haproxy_processes is %v, want 2", rows)
	}
	eventually(t, func() error {
		if s := h.agent.Status().HAProxy; len(s.Processes) != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}
