package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// TestHostsByName follows entries whose host is a name through answers, a
// restart without DNS, a move to another address, and a name that is nobody's.
func TestHostsByName(t *testing.T) {
	var mu sync.Mutex
	answers := map[string]string{"db.example": "127.0.0.1"}
	answer := func(name, addr string) {
		mu.Lock()
		defer mu.Unlock()
		answers[name] = addr
	}
	reg := newMemory()
	h := newHost(t, reg)
	h.options.ResolveEvery = 50 * time.Millisecond
	h.options.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		if a := answers[host]; a != "" {
			return []netip.Addr{netip.MustParseAddr(a)}, nil
		}
		return nil, errors.New("no such host")
	}
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	named := func(host string) func(*registry.Entry) { return func(e *registry.Entry) { e.Host = host } }
	reg.put("web.main", a.entry(named("db.example")), b.entry(named("localhost")), b.entry(named("nowhere.example")))
	h.start()
	h.up("web.main", a.port, b.port)
	// wantHosts waits for what /status says of the names.
	wantHosts := func(want ...string) {
		t.Helper()
		eventually(t, func() error {
			s := h.agent.Status().Registrations[0]
			var got []string
			for _, name := range slices.Sorted(maps.Keys(s.Hosts)) {
				got = append(got, strings.Join(strings.Fields(name+" "+s.Hosts[name].Addr+" "+s.Hosts[name].Error), " "))
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("hosts %q, want %q", got, want)
			}
			return nil
		})
	}
	wantHosts("db.example 127.0.0.1", "nowhere.example no such host")
	bad := h.agent.Status().Registrations[0].Bad
	if len(bad) != 1 || !strings.Contains(fmt.Sprint(bad), `host "nowhere.example" has no address: no such host`) {
		t.Errorf("bad entries: %v", bad)
	}

	// DNS is gone, and with it what this process would know: the cache has it.
	h.stop()
	answer("db.example", "")
	h.start()
	h.up("web.main", a.port, b.port)
	wantHosts("db.example 127.0.0.1 no such host", "nowhere.example no such host")
	reloads := h.reloads()

	// It moves, while requests are made.
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", a.port))
	if err != nil {
		t.Fatal(err)
	}
	moved := &httptest.Server{Listener: l, Config: &http.Server{Handler: a.srv.Config.Handler}}
	moved.Start()
	defer moved.Close()
	stop := load(t, h.url("web.main"), 2)
	answer("db.example", "127.0.0.2")
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		backends, _ := h.agent.Backends(ctx, "web.main", -1)
		var names []string
		for _, s := range backends.Backends {
			names = append(names, fmt.Sprint(s.Name, " ", s.Host, " ", s.Up))
		}
		want := []string{fmt.Sprintf("host1_127.0.0.1:%d localhost true", b.port), fmt.Sprintf("host1_127.0.0.2:%d db.example true", a.port)}
		slices.Sort(want)
		slices.Sort(names)
		if !slices.Equal(names, want) {
			return fmt.Errorf("%q, want %q", names, want)
		}
		return nil
	})
	sent, failures := stop()
	unharmed(t, sent, failures)
	// Somebody adds the name that was nobody's: its entry is b's, once more.
	answer("nowhere.example", "127.0.0.1")
	wantHosts("db.example 127.0.0.2", "nowhere.example 127.0.0.1")
	eventually(t, func() error {
		if bad := h.agent.Status().Registrations[0].Bad; len(bad) != 0 {
			return fmt.Errorf("bad entries: %v", bad)
		}
		return nil
	})
	if n := h.reloads(); n != reloads {
		t.Errorf("%d reloads, want none", n-reloads)
	}
}
