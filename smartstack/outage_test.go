package smartstack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// outageFor is how long ZooKeeper stays away, and what its sessions are limited
// to: an outage outlasts them. PAASTA_OUTAGE=1m makes it a minute, with sessions
// as long as the agent asks for.
func outageFor(t *testing.T) (length time.Duration, settings []string) {
	t.Helper()
	text := os.Getenv("PAASTA_OUTAGE")
	if text == "" {
		return 2500 * time.Millisecond, []string{"maxSessionTimeout=1200"}
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return length, nil
}

// converged is how soon after its return an agent has what ZooKeeper says.
const converged = time.Second

// An outage takes ZooKeeper away from the agent.
type outage struct {
	name string
	// reachable: ZooKeeper can be written to meanwhile, by others.
	reachable   bool
	begin, over func()
}

// A whole agent, with a real HAProxy under load and a service of its host, while
// the ensemble is away from it in every way: no request is lost, the process
// lives, and what was written meanwhile is in HAProxy, and the host's service
// registered again, within a second of the return.
func TestOutages(t *testing.T) {
	t.Parallel() // it waits, mostly
	if !paastatest.InNamespace(t) {
		return
	}
	length, settings := outageFor(t)
	servers := zktest.StartEnsemble(t, settings...)
	var ways []*zktest.Partition
	var addrs []string
	for _, s := range servers {
		p := zktest.NewPartition(t, s)
		ways, addrs = append(ways, p), append(addrs, p.Addr())
	}
	all := func(do func(i int)) func() {
		return func() {
			var wait sync.WaitGroup
			for i := range servers {
				wait.Go(func() { do(i) })
			}
			wait.Wait()
		}
	}
	outages := []outage{
		{"packets are dropped", true, all(func(i int) { ways[i].Drop() }), all(func(i int) { ways[i].Heal() })},
		{"connections are refused", true, all(func(i int) { ways[i].Cut() }), all(func(i int) { ways[i].Heal() })},
		{"all servers are frozen", false, all(func(i int) { servers[i].Pause() }), all(func(i int) { servers[i].Resume() })},
		{"all servers are restarted", false, all(func(i int) { servers[i].Stop() }), all(func(i int) { servers[i].Restart() })},
	}
	h := newOutageHost(t, zktest.Addrs(servers), strings.Join(addrs, ","))
	stop := load([]string{"http://169.254.255.254:20001/"}, 2, nil)
	for _, o := range outages {
		// A machine that others use may be late once; what waits for a timer is late
		// every time.
		var took time.Duration
		for range 5 {
			if took = h.through(o, length); took <= converged {
				break
			}
		}
		if took > converged {
			t.Errorf("%s for %s: in step %s after the return, want %s", o.name, length, took, converged)
		}
	}
	sent, slowest, failures := stop()
	t.Logf("%d requests, %d failed, the slowest took %s", sent, len(failures), slowest)
	if len(failures) > 0 {
		t.Errorf("%s", strings.Join(failures[:min(5, len(failures))], "\n"))
	}
}

// An outageHost is an agent whose registry goes away at times.
type outageHost struct {
	t       *testing.T
	ops     *zk.Conn
	backend []int
	weight  int
	runtime *haproxy.Runtime
}

func newOutageHost(t *testing.T, servers, ways string) *outageHost {
	t.Helper()
	ops, err := zk.Dial(zk.Options{Servers: servers, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ops.Close)
	soa := t.TempDir()
	write(t, filepath.Join(soa, "web", "smartstack.yaml"), "main: {proxy_port: 20001, timeout_server_ms: 5000}\n")
	h := &outageHost{t: t, ops: ops, backend: []int{server(t), server(t)}, weight: 10}
	c := hostConfig(t, ways, soa)
	c.Smartstack.Nerve, c.Smartstack.ServicesDir = true, t.TempDir()
	write(t, filepath.Join(c.Smartstack.ServicesDir, "db.main.yaml"), fmt.Sprintf("port: %d\nhost: 127.0.0.1\nchecks: [{type: tcp}]\n", server(t)))
	h.change()
	newChildAgent(t, c) // what it does in the end shows that it has never exited
	h.runtime = haproxy.Process{Dir: c.Smartstack.StateDir}.Runtime()
	h.await("the agent starts", func() bool { return h.applied() && h.registered() != 0 })
	return h
}

// through is one outage; took is how long after the return all is in step. An
// ensemble that was frozen or restarted has returned when it takes a change.
func (h *outageHost) through(o outage, length time.Duration) (took time.Duration) {
	h.t.Helper()
	old := h.registered()
	o.begin()
	if o.reachable {
		h.change()
	}
	time.Sleep(length)
	if o.reachable {
		h.await("the session expires", func() bool { return h.registered() == 0 })
	}
	o.over()
	over := time.Now()
	if !o.reachable {
		h.change()
	}
	back := time.Now()
	h.await(o.name, h.applied)
	applied := time.Since(back)
	h.await(o.name, func() bool { now := h.registered(); return now != 0 && (!o.reachable || now != old) })
	took = time.Since(back)
	h.t.Logf("%s for %s: there again after %s, then in HAProxy after %s, registered after %s", o.name, length,
		back.Sub(over).Round(time.Millisecond), applied.Round(time.Millisecond), took.Round(time.Millisecond))
	return took
}

// change writes weights that were not there before, as soon as that is possible.
func (h *outageHost) change() {
	h.t.Helper()
	h.weight++
	var entries []registry.Entry
	for _, port := range h.backend {
		entries = append(entries, entryAt(port, h.weight))
	}
	h.await("the registry takes a change", func() bool { return putAll(h.ops, "web.main", entries) == nil })
}

// applied tells whether HAProxy has the last change.
func (h *outageHost) applied() bool {
	states, err := h.runtime.ServerStates(context.Background(), 0, "web.main")
	return err == nil && len(states) == len(h.backend) &&
		!slices.ContainsFunc(states, func(s haproxy.ServerState) bool { return s.Maint || s.Weight != h.weight })
}

// registered is the session that has registered the host's own service, or 0.
func (h *outageHost) registered() int64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	names, _, err := h.ops.Children(ctx, registry.Root+"/db.main")
	if err != nil || len(names) == 0 {
		return 0
	}
	_, stat, err := h.ops.Get(ctx, registry.Root+"/db.main/"+names[0])
	if err != nil {
		return 0
	}
	return stat.EphemeralOwner
}

func (h *outageHost) await(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not within a minute: %s (weight %d)", what, h.weight)
		}
	}
}

// ZooKeeper loses its data, or has only older ones: the agent gets a new session
// without a restart, registers its host's service and itself again, and follows
// what is written then. What it serves meanwhile loses no request.
func TestZooKeeperLosesItsData(t *testing.T) {
	t.Parallel()
	if !paastatest.InNamespace(t) {
		return
	}
	_, settings := outageFor(t)
	server := zktest.Start(t, settings...)
	h := newOutageHost(t, server.Addr(), server.Addr())
	announced := func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		names, _, err := h.ops.Children(ctx, paasta.AgentsPath)
		return err == nil && len(names) == 1
	}
	h.await("the agent is announced", announced)
	stop := load([]string{"http://169.254.255.254:20001/"}, 2, nil)
	restore := server.Backup()
	for _, lose := range []struct {
		name string
		data func()
	}{{"restored from an older backup", restore}, {"wiped", server.Wipe}} {
		for range 20 {
			h.change() // so that what is there afterwards is behind for long
		}
		h.await("the last change", h.applied)
		before := h.registered()
		lose.data()
		begin := time.Now()
		h.change()
		h.await(lose.name+": the next change", h.applied)
		h.await(lose.name+": registered", func() bool { return h.registered() != 0 })
		h.await(lose.name+": announced", announced)
		t.Logf("%s: in step after %s, session %x, before %x", lose.name, time.Since(begin).Round(time.Millisecond), h.registered(), before)
	}
	sent, slowest, failures := stop()
	t.Logf("%d requests, %d failed, the slowest took %s", sent, len(failures), slowest)
	if len(failures) > 0 {
		t.Errorf("%s", strings.Join(failures[:min(5, len(failures))], "\n"))
	}
}
