package smartstack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/registry/registrytest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

const (
	oldSHA = "1111111111111111111111111111111111111111"
	newSHA = "2222222222222222222222222222222222222222"
)

// TestRequestMetrics sends requests of two callers through a real HAProxy to two
// versions of a service, and reads them back in every encoding.
func TestRequestMetrics(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	binary := paastatest.Need(t, "haproxy")
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
	write(t, filepath.Join(soa, "web", "smartstack.yaml"),
		"main: {proxy_port: 20001, timeout_server_ms: 3000, metrics_uri: /status/metrics, endpoint_templates: ['/users/{id}']}\n")
	write(t, filepath.Join(soa, "db", "smartstack.yaml"), "main: {proxy_port: 20002, mode: tcp}\n")
	carbon, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := sysconfig.Config{
		Cluster: "test", SoaDir: soa, Hostname: "host1.example.com", LocationTypes: []string{"superregion", "region"},
		Smartstack: sysconfig.Smartstack{
			StateDir: dir, StatsListen: "127.0.0.1:3212", BindAddresses: []string{"127.0.0.1"}, HAProxy: binary,
			MaxConn: 500, CheckInterval: 10 * time.Minute, CheckFast: 30 * time.Second, LogSocket: true, Graphite: carbon.Addr().String(),
			Reload: sysconfig.Reload{Protect: "none", MinInterval: 50 * time.Millisecond, Hold: 2 * time.Second, HardStop: time.Minute}, RemovalFloor: 0.5, RemovalWindow: time.Second,
		},
	}
	entries := new(registrytest.Fake)
	sick := task(t, 5*time.Millisecond, 7)
	well := task(t, 0, 0)
	for sha, port := range map[string]int{oldSHA: well, newSHA: sick} {
		e := registry.Entry{Host: "127.0.0.1", Port: port, Name: "host1", Weight: 10, Labels: map[string]string{
			registry.LabelGitSHA: sha, registry.LabelInstance: "main", registry.LabelTaskID: fmt.Sprintf("web.main.t%d", port),
		}}
		if err := entries.Apply(t.Context(), "web.main", []registry.Entry{e}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := entries.Apply(t.Context(), "db.main", []registry.Entry{{Host: "127.0.0.1", Port: well, Name: "host1", Weight: 10}}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		shop := LocalTask{ID: "shop.main.t1", Host: "127.0.0.1", IP: "127.0.0.2", Service: "shop", Instance: "main"}
		local := func(context.Context) (LocalTasks, error) { return LocalTasks{Tasks: []LocalTask{shop}}, nil }
		o := Options{Config: c, GraphiteEvery: 100 * time.Millisecond, LocalTasks: local, Registry: entries, Listener: l, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		if err := Run(ctx, o); err != nil {
			t.Error(err)
		}
	})
	defer wait.Wait()
	defer cancel()
	base := "http://" + l.Addr().String()
	eventually(t, base+"/metrics", `smartstack_backends{registration="web.main",state="up"} 2`)
	eventually(t, base+"/metrics", `smartstack_backends{registration="db.main",state="up"} 1`)

	proxy := haproxy.Process{Dir: dir}.Runtime()
	names := "show map " + filepath.Join(dir, "ip_to_service.map")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		answers, err := proxy.Do(t.Context(), 0, names)
		if err == nil && strings.Contains(answers[0], "127.0.0.2 shop.main") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("HAProxy does not know its callers: %q, %v", answers, err)
		}
	}

	const each = 200 // five requests for two servers: either gets some of each kind
	shop, stranger := clientFrom("127.0.0.2"), clientFrom("127.0.0.1")
	for i := range each {
		fetch(t, shop, http.MethodGet, fmt.Sprintf("/users/%d?verbose=1", i))
		fetch(t, shop, http.MethodPost, "/orders")
		fetch(t, stranger, http.MethodGet, "/old/path")
		fetch(t, stranger, http.MethodGet, "/old/path")
		fetch(t, stranger, http.MethodGet, fmt.Sprintf("/nothing/%d", i)) // 404s teach nothing
	}
	var m paasta.AgentMetrics
	eventually(t, base+"/metrics", fmt.Sprintf(`smartstack_log_lines_total{result="counted"} %d`, 5*each))
	if err := json.Unmarshal([]byte(get(base+"/v1/metrics?service=web&window=5m")), &m); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	latency := map[string]*paasta.Histogram{}
	for _, s := range m.Series {
		counts[s.Endpoint+" by "+s.Caller] += s.Latency.Count
		counts[s.Class] += s.Latency.Count
		if s.Server != fmt.Sprintf("host1_127.0.0.1:%d", well) && s.Server != fmt.Sprintf("host1_127.0.0.1:%d", sick) || s.Instance != "main" || s.TaskID == "" {
			t.Errorf("series of no server of ours: %+v", s)
		}
		if latency[s.Version] == nil {
			latency[s.Version] = &paasta.Histogram{}
		}
		latency[s.Version].Add(s.Latency)
	}
	for what, want := range map[string]uint64{
		"GET /users/{id} by shop.main": each, "POST /orders by shop.main": each, "GET /old/path by unknown": 2 * each, "other by unknown": each, "4xx": each,
	} {
		if counts[what] != want {
			t.Errorf("%s: %d, want %d; all: %v", what, counts[what], want, counts)
		}
	}
	if counts["5xx"] == 0 || counts["5xx"]+counts["2xx"] != 4*each {
		t.Errorf("classes: %v", counts)
	}
	was, is := latency[oldSHA], latency[newSHA]
	if was == nil || is == nil || was.Quantile(.5) > 4000 || is.Min < 5000 {
		t.Errorf("latency by version: %+v, %+v", was, is)
	}
	if len(m.Versions) != 2 || m.Log.Dropped != 0 || m.Log.Lines != 5*each || m.Host != "host1.example.com" {
		t.Errorf("versions %+v, log %+v", m.Versions, m.Log)
	}

	// What is not HTTP has connections.
	conn, err := net.Dial("tcp", "127.0.0.1:20002")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "GET /status HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.0 200") {
		t.Errorf("through tcp: %q, %v", text, err)
	}
	conn.Close()
	tcp := eventually(t, base+"/v1/metrics?service=db", `"endpoint":"tcp"`)
	if !strings.Contains(tcp, `"class":"ok"`) {
		t.Errorf("tcp: %s", tcp)
	}

	// What a caller asks of others is found under its own name.
	if err := json.Unmarshal([]byte(get(base+"/v1/metrics?service=shop")), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Series) == 0 || len(m.Versions) != 0 {
		t.Errorf("downstream of shop: %+v", m)
	}
	for _, s := range m.Series {
		if s.Caller != "shop.main" || s.Registration != "web.main" {
			t.Errorf("downstream of shop: %+v", s)
		}
	}
	for _, query := range []string{"", "?service=web&window=1h", "?service=web&window=x"} {
		if text := get(base + "/v1/metrics" + query); strings.HasPrefix(text, "{") {
			t.Errorf("/v1/metrics%s: %s", query, text)
		}
	}

	var view dropwizard.View
	if err := json.Unmarshal([]byte(get(base+"/metrics.json")), &view); err != nil {
		t.Fatal(err)
	}
	timer := view.Timers["web.main.GET /users/{id}"]
	if timer.Count != each || timer.P99 < 5 || timer.Min >= 5 || timer.RateUnits != "calls/second" {
		t.Errorf("timer: %+v of %d", timer, len(view.Timers))
	}
	if view.Counters["smartstack_reload_reasons_total.reason.not_running"].Count == 0 || view.Gauges["smartstack_haproxy_up"].Value != 1 {
		t.Errorf("the agent's own: %v %v", view.Counters, view.Gauges)
	}

	// What the tasks say of themselves.
	eventually(t, base+"/v1/metrics?service=web", `"hits":41`)
	eventually(t, base+"/metrics", fmt.Sprintf(`smartstack_task_counter{instance="main",name="hits",registration="web.main",server="host1_127.0.0.1:%d",version="%s"} 41`, well, oldSHA))

	// And Graphite.
	if err := carbon.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err = carbon.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 16<<10)
	n, err := conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "paasta.host1_example_com.") {
		t.Errorf("graphite got %q, %v", buf[:min(n, 200)], err)
	}
}

// task serves as a task does: after a while, every failing-th request with an
// error, and what is below /nothing not at all.
func task(t *testing.T, after time.Duration, failing int) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := dropwizard.NewRegistry()
	metrics.Counter("hits").Inc(41)
	n := 0
	var mu sync.Mutex
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/status":
			return
		case "/status/metrics":
			metrics.ServeHTTP(w, r)
			return
		}
		time.Sleep(after)
		mu.Lock()
		n++
		fail := failing > 0 && n%failing == 0
		mu.Unlock()
		switch {
		case strings.HasPrefix(r.URL.Path, "/nothing"):
			http.NotFound(w, r)
		case fail:
			http.Error(w, "sick", http.StatusInternalServerError)
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func clientFrom(ip string) *http.Client {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)), Timeout: 5 * time.Second}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext}, Timeout: 10 * time.Second}
}

func fetch(t *testing.T, c *http.Client, method, path string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://127.0.0.1:20001"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
