package smartstack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// TestRun is a whole agent on its fixed ports: from soa-configs and znodes to
// answers on 169.254.255.254, what it announces, and every page.
func TestRun(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	binary := paastatest.Need(t, "haproxy")
	server := zktest.Start(t)
	dial := func() *zk.Conn {
		conn, err := zk.Dial(zk.Options{Servers: server.Addr(), Timeout: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	conn, ops := dial(), dial()
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
	write(t, filepath.Join(soa, "web", "smartstack.yaml"), "main: {proxy_port: 20001, timeout_server_ms: 3000}\n")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	synapse := t.TempDir()
	c := sysconfig.Config{
		Cluster: "test", SoaDir: soa, Hostname: "host1", LocationTypes: []string{"superregion", "region"},
		Smartstack: sysconfig.Smartstack{
			StateDir: dir, StatsListen: "0.0.0.0:3212", BindAddresses: []string{"169.254.255.254", "127.0.0.1"}, SetupAddress: true, HAProxy: binary,
			MaxConn: 500, CheckInterval: 10 * time.Minute, CheckFast: 30 * time.Second, SynapseDir: synapse,
			Reload: sysconfig.Reload{Protect: "none", MinInterval: 50 * time.Millisecond, Hold: 2 * time.Second, HardStop: time.Minute}, RemovalFloor: 0.5, RemovalWindow: time.Second,
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		o := Options{Config: c, Registry: registry.NewZooKeeper(conn), Session: conn, Listener: l, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		if err := Run(ctx, o); err != nil {
			t.Error(err)
		}
	})
	defer wait.Wait()
	defer cancel()

	task, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(task, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	port := task.Addr().(*net.TCPAddr).Port
	apply(t, ops, registry.Entry{Host: "127.0.0.1", Port: port, Name: "host1", Weight: 10, Labels: map[string]string{registry.LabelTaskID: "task1"}})

	base := "http://" + l.Addr().String()
	begin := time.Now()
	var answer paasta.AgentBackends
	if err := json.Unmarshal([]byte(eventually(t, base+"/v1/backends/web.main", `"up":true`)), &answer); err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %s: %+v", time.Since(begin), answer)
	if b := answer.Backends[0]; b.TaskID != "task1" || b.Name != fmt.Sprintf("host1_127.0.0.1:%d", port) || answer.Version == 0 {
		t.Errorf("%+v", answer)
	}
	eventually(t, "http://169.254.255.254:20001/", "hello")
	eventually(t, "http://127.0.0.1:20001/", "hello")
	eventually(t, "http://127.0.0.1:3212/;csv", fmt.Sprintf("\nweb.main,host1_127.0.0.1:%d,", port))
	eventually(t, base+"/healthz", "ok")
	eventually(t, base+"/status", `"zookeeper_connected":true`)
	eventually(t, base+"/metrics", `smartstack_backends{registration="web.main",state="up"} 1`)
	eventually(t, fmt.Sprintf("%s/v1/connections?host=127.0.0.1&port=%d", base, port), `"connections":`)
	for _, page := range []string{"/status", "/healthz", "/metrics", "/v1/backends/web.main", "/v1/connections?host=127.0.0.1&port=80", "/"} {
		for host, want := range map[string]bool{"host1:3213": true, "127.0.0.1:3213": true, "evil.example:3213": false, "host1.evil.example": false} {
			r, err := http.NewRequest(http.MethodGet, base+page, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if (resp.StatusCode != http.StatusForbidden) != want {
				t.Errorf("GET %s meant for %s: %s", page, host, resp.Status)
			}
		}
	}
	files := http.FileServer(http.Dir(synapse))
	pages := &http.Server{Handler: files}
	defer pages.Close()
	fl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go pages.Serve(fl)
	eventually(t, "http://"+fl.Addr().String()+"/web.main.json", fmt.Sprintf(`"port":%d`, port))

	// A long poll answers when something changes, and what is announced follows.
	polled := make(chan string, 1)
	go func() {
		text := ""
		for after, n := answer.Generation, 0; n < 3 && !strings.Contains(text, `"weight":0`); n++ { // HAProxy may show it first
			text = get(fmt.Sprintf("%s/v1/backends/web.main?after=%d&wait=10s", base, after))
			var next paasta.AgentBackends
			if json.Unmarshal([]byte(text), &next) == nil {
				after = next.Generation
			}
		}
		polled <- text
	}()
	begin = time.Now()
	apply(t, ops, registry.Entry{Host: "127.0.0.1", Port: port, Name: "host1", Weight: 0, Labels: map[string]string{registry.LabelTaskID: "task1"}})
	if text := <-polled; !strings.Contains(text, `"weight":0`) || !strings.Contains(text, `"up":false`) {
		t.Errorf("after a drain: %s", text)
	}
	t.Logf("drained after %s", time.Since(begin))
	set, err := registry.NewZooKeeper(ops).List(t.Context(), "web.main")
	if err != nil {
		t.Fatal(err)
	}
	announced := func() {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			text, _, err := ops.Get(t.Context(), paasta.AgentsPath+"/host1")
			var node paasta.AgentNode
			if err == nil && json.Unmarshal(text, &node) == nil && node.Applied["web.main"] == set.Version && node.Status == base {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("announced %s, %v, want version %d", text, err, set.Version)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	announced()
	if err := ops.Delete(t.Context(), paasta.AgentsPath+"/host1", -1); err != nil {
		t.Fatal(err)
	}
	announced()

	// Without ZooKeeper it goes on serving, and says what it lacks.
	server.Stop()
	eventually(t, base+"/healthz", "no ZooKeeper session")
	eventually(t, base+"/status", `"zookeeper_connected":false`)
	server.Restart()
	eventually(t, base+"/healthz", "ok")
	announced()
}

// apply makes e all that web.main has.
func apply(t *testing.T, conn *zk.Conn, e registry.Entry) {
	t.Helper()
	r := registry.NewZooKeeper(conn)
	old, err := r.List(t.Context(), "web.main")
	if err == nil {
		err = r.Apply(t.Context(), "web.main", []registry.Entry{e}, old.Nodes)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func get(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func eventually(t *testing.T, url, want string) string {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		text := get(url)
		if strings.Contains(text, want) {
			return text
		}
		if time.Now().After(deadline) {
			t.Fatalf("GET %s: want %q in\n%s", url, want, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
