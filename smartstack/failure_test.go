package smartstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// asAgent in the environment makes this test binary the agent whose config is
// in the file that it names, so that tests can kill it.
const asAgent = "PAASTA_TEST_AGENT"

// profileAgent in the environment names the file for a CPU profile of an
// agent's second 20 to 40, with ".cold" for its first three, with ".heap" of its
// memory in the end, and with ".heap0" of that at second 20.
const profileAgent = "PAASTA_TEST_PROFILE"

func TestMain(m *testing.M) {
	file := os.Getenv(asAgent)
	if file == "" {
		os.Exit(m.Run())
	}
	text, err := os.ReadFile(file)
	var c sysconfig.Config
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if file := os.Getenv(profileAgent); file != "" && err == nil {
		profile(file)
	}
	if err == nil {
		err = start(context.Background(), c, Wiring{}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func profile(file string) {
	create := func(name string) *os.File {
		f, err := os.Create(name)
		if err != nil {
			panic(err)
		}
		return f
	}
	runtime.MemProfileRate = 16 << 10
	_ = pprof.StartCPUProfile(create(file + ".cold"))
	time.AfterFunc(3*time.Second, pprof.StopCPUProfile)
	time.AfterFunc(20*time.Second, func() {
		_ = pprof.WriteHeapProfile(create(file + ".heap0"))
		_ = pprof.StartCPUProfile(create(file))
	})
	time.AfterFunc(40*time.Second, func() {
		pprof.StopCPUProfile()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintf(os.Stderr, "heap %d idle %d released %d inuse %d stack %d sys %d gcsys %d other %d mspan %d goroutines %d gcs %d\n", m.HeapAlloc>>10, m.HeapIdle>>10, m.HeapReleased>>10, m.HeapInuse>>10, m.StackSys>>10, m.Sys>>10, m.GCSys>>10, m.OtherSys>>10, m.MSpanSys>>10, runtime.NumGoroutine(), m.NumGC)
		_ = pprof.WriteHeapProfile(create(file + ".heap"))
	})
}

// hostConfig is the config of an agent that a test starts, and ends its HAProxy
// with the test.
func hostConfig(t testing.TB, zookeeper, soa string) sysconfig.Config {
	t.Helper()
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
	return sysconfig.Config{
		Cluster: "test", SoaDir: soa, Hostname: "host1", LocationTypes: []string{"superregion", "region"}, ZooKeeper: zookeeper,
		Smartstack: sysconfig.Smartstack{
			StateDir: dir, Listen: "127.0.0.1:3213", StatsListen: "0.0.0.0:3212", BindAddresses: []string{"169.254.255.254", "127.0.0.1"}, SetupAddress: true,
			HAProxy: paastatest.Need(t, "haproxy"), MaxConn: 500, CheckInterval: 10 * time.Minute, CheckFast: 30 * time.Second,
			Reload:       sysconfig.Reload{Protect: "auto", MinInterval: 50 * time.Millisecond, Hold: 2 * time.Second, HardStop: time.Minute},
			RemovalFloor: 0.5, RemovalWindow: 10 * time.Second,
		},
	}
}

// A childAgent is an agent in a process of its own.
type childAgent struct {
	t    testing.TB
	file string
	log  *os.File
	cmd  *exec.Cmd
}

func newChildAgent(t testing.TB, c sysconfig.Config) *childAgent {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	a := &childAgent{t: t, file: filepath.Join(t.TempDir(), "config.json")}
	if err := os.WriteFile(a.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if a.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			text, _ := os.ReadFile(a.log.Name())
			t.Logf("the agents' log:\n%s", text[max(0, len(text)-20000):])
		}
		if os.Getenv(profileAgent) != "" {
			text, _ := os.ReadFile(a.log.Name())
			os.WriteFile(os.Getenv(profileAgent)+".log", text, 0o644)
		}
		a.log.Close()
	})
	a.begin()
	return a
}

func (a *childAgent) begin() {
	a.t.Helper()
	a.cmd = exec.Command(os.Args[0])
	a.cmd.Env = append(os.Environ(), asAgent+"="+a.file)
	if os.Getenv(profileAgent) == "" {
		// The paasta binary has no memory profiler, whose tables are 1.4 MB.
		a.cmd.Env = append(a.cmd.Env, "GODEBUG=memprofilerate=0")
	}
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *childAgent) kill() {
	if a.cmd == nil {
		return
	}
	if err := a.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.t.Error(err)
	}
	_ = a.cmd.Wait() // it says that it was killed
	a.cmd = nil
}

// load sends requests to all urls, each on a connection of its own and in one
// attempt, until stop is called. judge may say that an answer is wrong.
func load(urls []string, clients int, judge func(body string, sent time.Time) error) (stop func() (sent int64, slowest time.Duration, failures []string)) {
	var sent, slowest atomic.Int64
	var mu sync.Mutex
	var failures []string
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for i := range clients {
		url := urls[i%len(urls)]
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		wait.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				resp, err := client.Get(url)
				if err == nil {
					var body []byte
					body, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					switch {
					case err != nil:
					case resp.StatusCode != http.StatusOK:
						err = fmt.Errorf("%s: %s", resp.Status, body)
					case judge != nil:
						err = judge(string(body), begin)
					}
				}
				sent.Add(1)
				took := int64(time.Since(begin))
				for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
				if err != nil {
					mu.Lock()
					failures = append(failures, begin.Format("05.000 ")+err.Error())
					mu.Unlock()
				}
			}
		})
	}
	return func() (int64, time.Duration, []string) {
		cancel()
		wait.Wait()
		return sent.Load(), time.Duration(slowest.Load()), failures
	}
}

// server answers with its port, until the test ends.
func server(t testing.TB) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, port) })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return port
}

func entryAt(port, weight int) registry.Entry {
	return registry.Entry{Host: "127.0.0.1", Port: port, Name: "host1", Weight: weight}
}

// kill -9 of the agent at any moment: while it starts, while HAProxy reloads and
// connections are held, while servers come and go. No request is lost, and what
// was written meanwhile is what is served in the end.
func TestAgentIsKilled(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	server1 := zktest.Start(t)
	ops, err := zk.Dial(zk.Options{Servers: server1.Addr(), Timeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ops.Close)
	soa := t.TempDir()
	service := func(timeout int) {
		write(t, filepath.Join(soa, "web", "smartstack.yaml"), fmt.Sprintf("main: {proxy_port: 20001, timeout_server_ms: %d}\n", timeout))
	}
	service(3000)
	a, b, c := server(t), server(t), server(t)
	put(t, ops, entryAt(a, 10), entryAt(b, 10))
	config := hostConfig(t, server1.Addr(), soa)
	agent := newChildAgent(t, config)
	urls := []string{"http://169.254.255.254:20001/", "http://127.0.0.1:20001/"}
	for _, url := range urls {
		eventually(t, url, fmt.Sprint(a))
	}
	stop := load(urls, 4, nil)
	kills := 8
	if n, err := strconv.Atoi(os.Getenv("PAASTA_KILLS")); err == nil {
		kills = n
	} else if testing.Short() {
		kills = 3
	}
	for i := range kills {
		service(4000 + i) // a reload
		put(t, ops, entryAt(a, 10), entryAt(b, 1+i), entryAt(c, 10))
		time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
		put(t, ops, entryAt(a, 10), entryAt(b, 1+i))
		agent.kill()
		agent.begin()
	}
	d := server(t)
	put(t, ops, entryAt(a, 10), entryAt(b, 10), entryAt(d, 10))
	eventually(t, "http://127.0.0.1:3213/v1/backends/web.main", fmt.Sprintf(`"port":%d`, d))
	for _, url := range urls {
		eventually(t, url, fmt.Sprint(d))
	}
	deadline := time.Now().Add(30 * time.Second)
	for want := fmt.Sprintf("timeout server %dms", 4000+kills-1); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(config.Smartstack.StateDir, "haproxy.cfg"))
		if err == nil && strings.Contains(string(text), want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not in haproxy.cfg: %v", want, err)
		}
	}
	sent, slowest, failures := stop()
	t.Logf("%d requests, %d failed, the slowest took %s; %d kills", sent, len(failures), slowest, kills)
	if len(failures) > 0 {
		t.Errorf("%s", strings.Join(failures[:min(5, len(failures))], "\n"))
	}
	// A held SYN that died with its holder is sent again after a second.
	if slowest > 3*time.Second {
		t.Errorf("a request took %s", slowest)
	}
}

// put makes entries all that web.main has, in one transaction.
func put(t testing.TB, conn *zk.Conn, entries ...registry.Entry) {
	t.Helper()
	if err := putAll(conn, "web.main", entries); err != nil {
		t.Fatal(err)
	}
}

func putAll(conn *zk.Conn, name string, entries []registry.Entry) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := registry.NewZooKeeper(conn)
	old, err := r.List(ctx, name)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, e := range entries {
		want[string(registry.Encode(e))] = true
	}
	var remove []registry.Node
	for _, n := range old.Nodes {
		if text := string(registry.Encode(n.Entry)); want[text] {
			delete(want, text)
		} else {
			remove = append(remove, n)
		}
	}
	var add []registry.Entry
	for _, e := range entries {
		if want[string(registry.Encode(e))] {
			add = append(add, e)
		}
	}
	if len(add) == 0 && len(remove) == 0 {
		return nil
	}
	return r.Apply(ctx, name, add, remove)
}
