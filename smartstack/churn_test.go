package smartstack

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// roster is which ports were registered when.
type roster struct {
	mu   sync.Mutex
	left map[string]time.Time // when a port was last registered; zero while it is
}

// late is how long a change may take to be everywhere; the machine is busy.
const late = time.Second

func (r *roster) set(ports []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	is := map[string]bool{}
	for _, p := range ports {
		is[strconv.Itoa(p)] = true
		r.left[strconv.Itoa(p)] = time.Time{}
	}
	for p, at := range r.left {
		if !is[p] && at.IsZero() {
			r.left[p] = now
		}
	}
}

// judge says what is wrong with an answer that came from a port.
func (r *roster) judge(port string, sent time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, known := r.left[port]
	switch {
	case !known:
		return fmt.Errorf("answered by %q, which was never registered", port)
	case !at.IsZero() && sent.Sub(at) > late:
		return fmt.Errorf("answered by %s, which had left %s before", port, sent.Sub(at))
	}
	return nil
}

// A hundred backends change every second under load: half of them go and others
// come, the rest get another weight. No reload, no failed request, and each is
// answered by a server that was registered at the time. The time is 5 s here,
// and a minute with PAASTA_CHURN=1m.
func TestHundredBackendsChangeEverySecond(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	zkServer := zktest.Start(t)
	ops, err := zk.Dial(zk.Options{Servers: zkServer.Addr(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ops.Close)
	soa := t.TempDir()
	write(t, filepath.Join(soa, "web", "smartstack.yaml"), "main: {proxy_port: 20001, timeout_server_ms: 5000}\n")
	pool := make([]int, 150)
	for i := range pool {
		pool[i] = server(t)
	}
	// In round n, 100 of the pool from n*50 on, in a circle.
	r := &roster{left: map[string]time.Time{}}
	round := func(n int) {
		var entries []registry.Entry
		var ports []int
		for i := range 100 {
			port := pool[(n*50+i)%len(pool)]
			ports = append(ports, port)
			entries = append(entries, entryAt(port, 10+n%50))
		}
		// Those that come may answer from now on, those that go until it is done.
		r.set(append(ports, r.now()...))
		put(t, ops, entries...)
		r.set(ports)
	}
	round(0)
	config := hostConfig(t, zkServer.Addr(), soa)
	config.Smartstack.RemovalFloor = 1 // half of them a second is what is wanted here
	newChildAgent(t, config)
	url := "http://169.254.255.254:20001/"
	eventually(t, "http://127.0.0.1:3213/v1/backends/web.main", fmt.Sprintf(`"port":%d`, pool[99]))
	eventually(t, url, "")
	eventually(t, "http://127.0.0.1:3213/status", `"up":100`)
	running := haproxy.Process{Dir: config.Smartstack.StateDir}
	first, ok, err := running.Running(t.Context())
	if err != nil || !ok {
		t.Fatal(first, err)
	}
	stop := load([]string{url}, 4, r.judge)
	length := churnFor(t)
	begin := time.Now()
	rounds := 0
	for ; time.Since(begin) < length; rounds++ {
		round(rounds + 1)
		time.Sleep(time.Until(begin.Add(time.Duration(rounds+1) * time.Second)))
	}
	sent, slowest, failures := stop()
	t.Logf("%d requests in %s, %d failed, the slowest took %s; %d rounds", sent, time.Since(begin).Round(time.Millisecond), len(failures), slowest, rounds)
	if len(failures) > 0 {
		t.Errorf("%s", strings.Join(failures[:min(5, len(failures))], "\n"))
	}
	if now, _, err := running.Running(t.Context()); err != nil || now.PID != first.PID {
		t.Errorf("HAProxy %d became %d (%v): there was a reload", first.PID, now.PID, err)
	}
}

func (r *roster) now() (ports []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, at := range r.left {
		if at.IsZero() {
			n, _ := strconv.Atoi(p) // it was one
			ports = append(ports, n)
		}
	}
	return ports
}

// An ensemble of three, one after the other of which is killed, then frozen,
// under load: requests go on, and changes that the ensemble takes arrive.
func TestEnsembleLosesOne(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	servers := zktest.StartEnsemble(t)
	ops, err := zk.Dial(zk.Options{Servers: zktest.Addrs(servers), Timeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ops.Close)
	soa := t.TempDir()
	write(t, filepath.Join(soa, "web", "smartstack.yaml"), "main: {proxy_port: 20001, timeout_server_ms: 5000}\n")
	a, b := server(t), server(t)
	put(t, ops, entryAt(a, 10))
	newChildAgent(t, hostConfig(t, zktest.Addrs(servers), soa))
	url := "http://169.254.255.254:20001/"
	eventually(t, url, strconv.Itoa(a))
	stop := load([]string{url}, 2, nil)
	weight := 10
	change := func(what string) {
		t.Helper()
		// The operator's own session may be at the server that is gone.
		weight++
		for deadline := time.Now().Add(30 * time.Second); ; {
			err := putAll(ops, "web.main", []registry.Entry{entryAt(a, weight), entryAt(b, weight)})
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		begin := time.Now()
		eventually(t, "http://127.0.0.1:3213/v1/backends/web.main", fmt.Sprintf(`"weight":%d`, weight))
		t.Logf("%s: a change was read after %s", what, time.Since(begin).Round(time.Millisecond))
	}
	change("all three")
	for i, s := range servers {
		if i%2 == 0 {
			s.Stop()
			change(fmt.Sprintf("server %d killed", i+1))
			s.Restart()
		} else {
			s.Pause()
			change(fmt.Sprintf("server %d frozen", i+1))
			s.Resume()
		}
		change("all three again")
	}
	sent, slowest, failures := stop()
	t.Logf("%d requests, %d failed, the slowest took %s", sent, len(failures), slowest)
	if len(failures) > 0 {
		t.Errorf("%s", strings.Join(failures[:min(5, len(failures))], "\n"))
	}
}

// churnFor is how long to go on.
func churnFor(t *testing.T) time.Duration {
	t.Helper()
	text, ok := syscall.Getenv("PAASTA_CHURN")
	if !ok {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
