package smartstack

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/registry/registrytest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A host that has nothing but IPv6: binds, servers, probes, a drain, connections,
// a reload and metrics, with traffic.
func TestIPv6Only(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	binary := paastatest.Need(t, "haproxy")
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		paastatest.Missing(t, "this machine has no IPv6: %v", err)
	} else {
		l.Close()
	}
	for _, args := range []string{"-4 addr flush dev lo", "addr add fd00:254::254/128 dev lo nodad"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	if c, err := net.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Fatalf("there still is IPv4: %v, %v", c, err)
	}
	dir, err := os.MkdirTemp("", "ss")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (haproxy.Process{Dir: dir}).Stop(context.Background()); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	soa := t.TempDir()
	namespace := func(timeout int) {
		write(t, filepath.Join(soa, "web", "smartstack.yaml"), fmt.Sprintf("main: {proxy_port: 20001, timeout_server_ms: %d}\n", timeout))
	}
	namespace(3000)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	c := sysconfig.Config{
		Cluster: "test", SoaDir: soa, Hostname: "host1", LocationTypes: []string{"superregion", "region"},
		Smartstack: sysconfig.Smartstack{
			StateDir: dir, StatsListen: "[::1]:3212", BindAddresses: []string{"fd00:254::254", "::1"}, SetupAddress: true, HAProxy: binary,
			MaxConn: 500, CheckInterval: 10 * time.Minute, CheckFast: 30 * time.Second, LogSocket: true,
			Reload: sysconfig.Reload{Protect: "none", MinInterval: 50 * time.Millisecond, Hold: 2 * time.Second, HardStop: time.Minute}, RemovalFloor: 0.5, RemovalWindow: time.Second,
		},
	}
	reg := &registrytest.Fake{}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		o := Options{Config: c, Registry: reg, Listener: l, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		if err := Run(ctx, o); err != nil {
			t.Error(err)
		}
	})
	defer wait.Wait()
	defer cancel()

	var sick atomic.Bool
	sick.Store(true)
	task := func(name string, sick *atomic.Bool) registry.Entry {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/status" && sick != nil && sick.Load() {
				http.Error(w, "sick", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprint(w, name)
		})}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
		return registry.Entry{Host: "::1", Port: l.Addr().(*net.TCPAddr).Port, Name: name, Weight: 10, Labels: map[string]string{registry.LabelTaskID: name, registry.LabelInstance: "main"}}
	}
	apply := func(entries ...registry.Entry) {
		t.Helper()
		old, err := reg.List(ctx, "web.main")
		if err == nil {
			err = reg.Apply(ctx, "web.main", entries, old.Nodes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	one, two := task("one", nil), task("two", &sick)
	apply(one)
	base, at := "http://"+l.Addr().String(), "http://[fd00:254::254]:20001/"
	eventually(t, at, "one")
	eventually(t, "http://[::1]:20001/", "one")
	eventually(t, "http://[::1]:3212/;csv", fmt.Sprintf(",one_::1:%d,", one.Port))

	// From here on no request fails.
	var sent atomic.Int64
	stopped := make(chan []string, 1)
	loading, stop := context.WithCancel(ctx)
	go func() {
		var failures []string
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		for loading.Err() == nil {
			sent.Add(1)
			resp, err := client.Get(at)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %s", resp.Status)
				}
			}
			if err != nil {
				failures = append(failures, err.Error())
			}
		}
		stopped <- failures
	}()
	apply(one, two)
	eventually(t, base+"/v1/backends/web.main", `"status":"PROBING"`)
	sick.Store(false)
	eventually(t, at, "two")
	eventually(t, base+"/metrics", `smartstack_backends{registration="web.main",state="up"} 2`)
	eventually(t, base+"/metrics", fmt.Sprintf(`class="2xx",endpoint="GET /",instance="main",registration="web.main",server="two_::1:%d",version=""}`, two.Port))

	// A drain: open connections go on, and are counted; new ones go elsewhere.
	held, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", one.Port))
	if err != nil {
		t.Fatal(err)
	}
	drained := one
	drained.Weight = 0
	apply(drained, two)
	eventually(t, base+"/metrics", `smartstack_backends{registration="web.main",state="drain"} 1`)
	for range 20 {
		if text := get(at); text != "two" {
			t.Errorf("%q answers while it drains", text)
		}
	}
	eventually(t, fmt.Sprintf("%s/v1/connections?host=::1&port=%d", base, one.Port), `"connections":1}`)
	held.Close()
	eventually(t, fmt.Sprintf("%s/v1/connections?host=::1&port=%d", base, one.Port), `"connections":0}`)
	apply(two)
	namespace(4000) // a reload
	eventually(t, base+"/status", `"last_reload_why":"web.main`)
	eventually(t, at, "two")
	stop()
	failures := <-stopped
	t.Logf("%d requests, %d failed", sent.Load(), len(failures))
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %s", len(failures), sent.Load(), strings.Join(failures[:min(3, len(failures))], "; "))
	}
}
