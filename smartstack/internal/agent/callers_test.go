package agent

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A request carries the name of the service that has its source address, and
// never what the caller itself says; without a reload, and after one.
func TestRequestsCarryTheirCaller(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Smartstack-Origin")) }))
	t.Cleanup(srv.Close)
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	reg.put("web.main", registry.Entry{Host: "127.0.0.1", Port: port, Name: "host1", Weight: 10, Labels: map[string]string{"region:west1": ""}})
	h.start()
	h.up("web.main", port)
	from := func(source string) string {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
		req, err := http.NewRequest(http.MethodGet, h.url("web.main"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Smartstack-Origin", "somebody.else")
		resp, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	is := func(source, want string) {
		t.Helper()
		eventually(t, func() error {
			if got := from(source); got != want {
				return fmt.Errorf("from %s: %q, want %q", source, got, want)
			}
			return nil
		})
	}
	is("127.0.0.2", "0")
	name := func(pairs ...string) map[netip.Addr]string {
		names := map[netip.Addr]string{}
		for i := 0; i < len(pairs); i += 2 {
			names[netip.MustParseAddr(pairs[i])] = pairs[i+1]
		}
		return names
	}
	reloads := h.reloads()
	h.agent.Callers(name("127.0.0.2", "search.main", "127.0.0.3", "bad name\nadd"))
	is("127.0.0.2", "search.main")
	is("127.0.0.3", "0")
	many := name("127.0.0.3", "other.main")
	for i := range 200 { // more than one command line holds
		many[netip.AddrFrom4([4]byte{127, 1, 0, byte(i)})] = fmt.Sprintf("service%d.main", i)
	}
	h.agent.Callers(many)
	is("127.0.0.3", "other.main")
	is("127.1.0.199", "service199.main")
	is("127.0.0.2", "0")
	if n := h.reloads(); n != reloads {
		t.Errorf("%d reloads", n-reloads)
	}
	h.service("another.main", nil)
	eventually(t, func() error {
		if h.reloads() == reloads {
			return fmt.Errorf("no reload")
		}
		return nil
	})
	is("127.0.0.3", "other.main")
	text, err := os.ReadFile(filepath.Join(h.options.Process.Dir, "ip_to_service.map"))
	if err != nil || !strings.HasPrefix(string(text), "127.0.0.3 other.main\n") || strings.Count(string(text), "\n") != 201 {
		t.Errorf("%s: %v", text, err)
	}
}

// A map that was damaged is no reason for HAProxy to refuse all services for ever.
func TestADamagedMapOfCallers(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	reg.put("new.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	for _, text := range []string{"{\"web\": 1}\n", "\x00\x00\x00", "10.0.0.1", "10.0.0.1 web.main\n10.0.0"} {
		h.stop()
		if err := os.WriteFile(filepath.Join(h.options.Process.Dir, "ip_to_service.map"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		h.start()
		before := h.reloads()
		h.service("web.main", func(ns *soaconfig.Namespace) { ns.Retries = len(text) % 50 })
		eventually(t, func() error {
			if s := h.agent.Status(); s.HAProxy.Reloads == before || len(s.Problems) > 0 {
				return fmt.Errorf("%q: %+v", text, s)
			}
			return nil
		})
	}
	h.service("new.main", nil)
	h.up("new.main", a.port)
}
