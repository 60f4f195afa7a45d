package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/reload"
)

// host is an agent with a real HAProxy, on ports of its own.
type host struct {
	t       testing.TB
	options Options
	reg     registry.Registry
	agent   *Agent
	ports   map[string]int // by registration
	tree    *soaconfig.Tree
	stop    func()
}

// newHost makes a host that has not started. Its HAProxy ends with the test.
func newHost(t testing.TB, reg registry.Registry) *host {
	t.Helper()
	binary := paastatest.Need(t, "haproxy")
	dir, err := os.MkdirTemp("", "ss") // short: a Unix socket's path has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	p := haproxy.Process{Binary: binary, Dir: dir}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	log := io.Discard
	if testing.Verbose() {
		log = os.Stderr
	}
	return &host{
		t: t, reg: reg, ports: map[string]int{},
		tree: &soaconfig.Tree{Services: map[string]*soaconfig.Service{}},
		options: Options{
			Process: p, Registry: reg, Plug: reload.None{},
			Global: haproxy.Global{MaxConn: 1000, HardStop: time.Minute, StatsListen: netip.AddrPortFrom(loopback, uint16(freePort(t)))},
			Settings: discover.Settings{
				Location: discover.Location{Types: []string{"superregion", "region", "habitat"}, Here: map[string]string{"superregion": "west", "region": "west1"}},
				Bind:     []netip.Addr{loopback},
			},
			MinInterval: 50 * time.Millisecond,
			Floor:       discover.Floor{Share: 0.5, Window: time.Second},
			Log:         slog.New(slog.NewTextHandler(log, nil)),
		},
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// service adds a namespace; change may alter it.
func (h *host) service(registration string, change func(*soaconfig.Namespace)) {
	h.t.Helper()
	service, name, _ := strings.Cut(registration, ".")
	port, ok := h.ports[registration]
	if !ok {
		for port == 0 || slices.Contains(slices.Collect(maps.Values(h.ports)), port) {
			port = freePort(h.t) // the same one twice, now and then
		}
		h.ports[registration] = port
	}
	ns := soaconfig.Namespace{
		Service: service, Name: name, ProxyPort: &port, Registered: true, Mode: "http", Discover: "region", Advertise: []string{"region"}, Retries: 1,
		TimeoutServer: 5 * time.Second, TimeoutClient: 5 * time.Second,
	}
	if change != nil {
		change(&ns)
	}
	tree := &soaconfig.Tree{Services: map[string]*soaconfig.Service{}}
	maps.Copy(tree.Services, h.tree.Services)
	valid := map[string]soaconfig.Namespace{name: ns}
	if old := tree.Services[service]; old != nil {
		for n, other := range old.Namespaces.Valid {
			if n != name {
				valid[n] = other
			}
		}
	}
	tree.Services[service] = &soaconfig.Service{Name: service, Namespaces: soaconfig.Entries[soaconfig.Namespace]{File: service + "/smartstack.yaml", Valid: valid}}
	h.tree = tree
	if h.agent != nil {
		h.agent.Namespaces(tree)
	}
}

// start runs the agent until stop, or the test's end.
func (h *host) start() {
	h.t.Helper()
	h.options.Metrics = NewMetrics(prometheus.NewRegistry())
	a := New(h.options)
	h.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := a.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	wait.Go(func() { a.WatchHeld(ctx, 200*time.Millisecond) })
	stop := sync.OnceFunc(func() { cancel(); wait.Wait() })
	h.stop = stop
	h.t.Cleanup(stop)
	if h.tree != nil {
		a.Namespaces(h.tree)
	}
}

func (h *host) url(registration string) string {
	return fmt.Sprintf("http://127.0.0.1:%d/", h.ports[registration])
}

func (h *host) reloads() int { return h.agent.Status().HAProxy.Reloads }

// up waits until HAProxy sends requests to exactly the servers at the given
// ports.
func (h *host) up(registration string, ports ...int) {
	h.t.Helper()
	want := map[int]bool{}
	for _, p := range ports {
		want[p] = true
	}
	var last string
	eventually(h.t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		answer, ok := h.agent.Backends(ctx, registration, -1)
		text, _ := json.Marshal(answer)
		last = string(text)
		n := 0
		for _, b := range answer.Backends {
			if b.Up && !want[b.Port] {
				return fmt.Errorf("%d is up", b.Port)
			}
			if b.Up {
				n++
			}
		}
		if !ok || n != len(want) {
			return fmt.Errorf("%d of %d are up: %s", n, len(want), last)
		}
		return nil
	})
}

// probing waits until the last probe of a server found what.
func (h *host) probing(registration string, port int, what string) {
	h.t.Helper()
	eventually(h.t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		answer, _ := h.agent.Backends(ctx, registration, -1)
		for _, b := range answer.Backends {
			if b.Port == port && b.Status == "PROBING" && strings.Contains(b.LastCheck, what) {
				return nil
			}
		}
		return fmt.Errorf("%+v", answer)
	})
}

func eventually(t testing.TB, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s: %v", patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// backend is a real HTTP server that says its port.
type backend struct {
	port    int
	served  atomic.Int64
	checked atomic.Int64
	slow    atomic.Int64 // milliseconds
	sick    atomic.Bool
	srv     *httptest.Server
}

func newBackend(t testing.TB) *backend {
	b := &backend{}
	b.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			b.checked.Add(1)
			if b.sick.Load() {
				http.Error(w, "sick", http.StatusServiceUnavailable)
			}
			return
		}
		time.Sleep(time.Duration(b.slow.Load()) * time.Millisecond)
		b.served.Add(1)
		fmt.Fprint(w, b.port)
	}))
	b.port = b.srv.Listener.Addr().(*net.TCPAddr).Port
	t.Cleanup(b.srv.Close)
	return b
}

func (b *backend) entry(change ...func(*registry.Entry)) registry.Entry {
	e := registry.Entry{Host: "127.0.0.1", Port: b.port, Name: "host1", Weight: 10, Labels: map[string]string{"region:west1": ""}}
	for _, c := range change {
		c(&e)
	}
	return e
}

func weight(n int) func(*registry.Entry) { return func(e *registry.Entry) { e.Weight = n } }

// load sends requests, each on its own connection, whose first SYN must have an
// answer, and in one attempt, until stop is called, which returns how many it
// sent and what went wrong.
func load(t testing.TB, url string, clients int) (stop func() (sent int64, failures []string)) {
	return loadWith(t, url, clients, atOnce(false))
}

// loadMixed is load by clients of which half use their connections again.
func loadMixed(h *host, registration string, clients int) (stop func() (sent int64, failures []string)) {
	one := loadWith(h.t, h.url(registration), (clients+1)/2, atOnce(false))
	two := loadWith(h.t, h.url(registration), clients/2, atOnce(true))
	return func() (int64, []string) {
		sent, failures := one()
		more, others := two()
		return sent + more, append(failures, others...)
	}
}

// loadWith is load by a way of connecting.
func loadWith(t testing.TB, url string, clients int, transport *http.Transport) (stop func() (sent int64, failures []string)) {
	var sent atomic.Int64
	var mu sync.Mutex
	var failures []string
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	for range clients {
		wait.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				resp, err := client.Get(url)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						err = fmt.Errorf("status %s", resp.Status)
					}
				}
				if err != nil {
					mu.Lock()
					failures = append(failures, time.Now().Format("05.000 ")+err.Error())
					mu.Unlock()
				}
			}
		})
	}
	return func() (int64, []string) {
		cancel()
		wait.Wait()
		transport.CloseIdleConnections()
		return sent.Load(), failures
	}
}

func (h *host) config() string {
	text, err := os.ReadFile(filepath.Join(h.options.Process.Dir, "haproxy.cfg"))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func timeouts(d time.Duration) func(*soaconfig.Namespace) {
	return func(ns *soaconfig.Namespace) { ns.TimeoutServer = d }
}

// patience bounds every wait; a machine that others use too is slow at times.
const patience = 40 * time.Second
