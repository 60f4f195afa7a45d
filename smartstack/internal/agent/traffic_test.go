package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// What the keys of a namespace do to real requests.
func TestTraffic(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.options.Settings.Fast = 200 * time.Millisecond // how soon a proxy that is down is seen to be
	var served atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60") // HAProxy keeps nothing without one
		if r.URL.Path == "/status" {
			return
		}
		n := served.Add(1)
		if strings.HasPrefix(r.URL.Path, "/slow") {
			time.Sleep(600 * time.Millisecond)
		}
		fmt.Fprintf(w, "%d from=%s to=%s extra=%s", n, r.Header.Get("X-Smartstack-Source"), r.Header.Get("X-Smartstack-Destination"), r.Header.Get("X-Extra"))
	}))
	t.Cleanup(srv.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "proxy to=%s", r.Header.Get("X-Smartstack-Destination"))
	}))
	t.Cleanup(proxy.Close)
	at := func(s *httptest.Server) registry.Entry {
		return registry.Entry{Host: "127.0.0.1", Port: s.Listener.Addr().(*net.TCPAddr).Port, Name: "host1", Weight: 10, Labels: map[string]string{"region:west1": ""}}
	}
	here := func(c soaconfig.Chaos) func(*soaconfig.Namespace) {
		return func(ns *soaconfig.Namespace) {
			ns.Chaos = map[string]map[string]soaconfig.Chaos{"region": {"west1": c}}
		}
	}
	keys := map[string]func(*soaconfig.Namespace){
		"plain.main":   nil,
		"headers.main": func(ns *soaconfig.Namespace) { ns.ExtraHeaders = map[string]string{"X-Extra": "50% \"more\""} },
		"dropped.main": here(soaconfig.Chaos{Fail: "drop"}),
		"error.main":   here(soaconfig.Chaos{Fail: "error_503"}),
		"delayed.main": here(soaconfig.Chaos{Delay: 300 * time.Millisecond}),
		"tcp.main": func(ns *soaconfig.Namespace) {
			ns.Mode = "tcp"
			here(soaconfig.Chaos{Delay: 300 * time.Millisecond})(ns)
		},
		"distant.main": func(ns *soaconfig.Namespace) {
			ns.Chaos = map[string]map[string]soaconfig.Chaos{"region": {"east1": {Fail: "drop"}}}
		},
		"fixed.main": func(ns *soaconfig.Namespace) {
			ns.FixedDelay = map[string]soaconfig.Delay{"superregion:west": {Duration: 300 * time.Millisecond, Percent: 100}}
		},
		"cached.main": func(ns *soaconfig.Namespace) { ns.Cache = &soaconfig.Cache{MaxAge: time.Minute, MaxObjectKB: 64} },
		"endpoint.main": func(ns *soaconfig.Namespace) {
			ns.TimeoutServer = 200 * time.Millisecond
			ns.EndpointTimeouts = map[string]time.Duration{"/slow/allowed": 3 * time.Second}
		},
		"through.main": func(ns *soaconfig.Namespace) { ns.ProxiedThrough = "proxy.main" },
		"proxy.main":   func(ns *soaconfig.Namespace) { ns.IsProxy = true },
	}
	for name, change := range keys {
		h.service(name, change)
		if name == "proxy.main" {
			reg.put(name, at(proxy))
		} else {
			reg.put(name, at(srv))
		}
	}
	h.start()
	for name := range keys {
		port := at(srv).Port
		if name == "proxy.main" {
			port = at(proxy).Port
		}
		h.up(name, port)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	get := func(name, path string) (status int, body string, took time.Duration, err error) {
		begin := time.Now()
		resp, err := client.Get(strings.TrimSuffix(h.url(name), "/") + path)
		if err != nil {
			return 0, "", time.Since(begin), err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), time.Since(begin), err
	}
	for _, tt := range []struct {
		name, path string
		status     int // 0: no answer at all
		body       string
		least      time.Duration
	}{
		{"plain.main", "/", 200, "from= to= extra=", 0},
		{"headers.main", "/", 200, `extra=50% "more"`, 0},
		{"dropped.main", "/", 0, "", 0},
		{"error.main", "/", 503, "", 0},
		{"delayed.main", "/", 200, "from=", 300 * time.Millisecond},
		{"tcp.main", "/", 200, "from=", 300 * time.Millisecond},
		{"distant.main", "/", 200, "from=", 0},
		{"fixed.main", "/", 200, "from=", 300 * time.Millisecond},
		{"endpoint.main", "/slow/allowed/x", 200, "from=", 600 * time.Millisecond},
		{"endpoint.main", "/slow/other", 504, "", 200 * time.Millisecond},
		{"through.main", "/", 200, "proxy to=through.main", 0},
		{"through.main", "/status", 200, "", 0},
	} {
		status, body, took, err := get(tt.name, tt.path)
		if status != tt.status || !strings.Contains(body, tt.body) || took < tt.least || (err != nil) != (tt.status == 0) {
			t.Errorf("%s%s: %d %q after %s, %v; want %d %q after at least %s", tt.name, tt.path, status, body, took, err, tt.status, tt.body, tt.least)
		}
	}
	_, first, _, _ := get("cached.main", "/kept")
	_, again, _, _ := get("cached.main", "/kept")
	_, other, _, _ := get("cached.main", "/another")
	if first == "" || first != again || first == other {
		t.Errorf("cached: %q, then %q; another path: %q", first, again, other)
	}
	// While the proxy is down, requests go straight.
	proxy.Close()
	eventually(t, func() error {
		if status, body, _, err := get("through.main", "/"); status != 200 || !strings.Contains(body, "from= ") {
			return fmt.Errorf("%d %q %w", status, body, errors.Join(err))
		}
		return nil
	})
}

// The original nerve writes an entry as the data of a plain znode, or encoded
// in its name; both are servers as ours are.
func TestEntriesOfTheOriginalNerve(t *testing.T) {
	w := newWorld(t)
	h := newHost(t, w.reg)
	h.service("web.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	w.put("web.main", a.entry())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const root = registry.Root + "/web.main/"
	plain := fmt.Sprintf(`{"host":"127.0.0.1","port":%d,"name":"host2","weight":10,"labels":{"region:west1":""}}`, b.port)
	if err := w.ops.Create(ctx, root+"host2_0000000007", []byte(plain)); err != nil {
		t.Fatal(err)
	}
	encoded := fmt.Sprintf(`{"host":"127.0.0.1","port":%d,"name":"host3","labels":{"region:west1":""}}`, c.port)
	if err := w.ops.Create(ctx, root+fmt.Sprintf("base64_%d_%s_0000000008", base64.StdEncoding.EncodedLen(len(encoded)), base64.StdEncoding.EncodeToString([]byte(encoded))), nil); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.up("web.main", a.port, b.port, c.port)
	for _, want := range []string{fmt.Sprintf("host2_127.0.0.1:%d", b.port), fmt.Sprintf("host3_127.0.0.1:%d", c.port)} {
		if !strings.Contains(h.config(), want) {
			t.Errorf("%s is not in\n%s", want, h.config())
		}
	}
	if err := w.ops.Delete(ctx, root+"host2_0000000007", -1); err != nil {
		t.Fatal(err)
	}
	h.up("web.main", a.port, c.port)
}
