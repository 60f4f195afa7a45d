package smartstack

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// used is the CPU time of a process and of its children that have ended, and
// its memory.
func used(b *testing.B, pid int) (own, children time.Duration, rssMB float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// After the name, which may hold anything: state is field 3, utime 14.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	ticks := func(i int) time.Duration {
		n, err := strconv.Atoi(fields[i-3])
		if err != nil {
			b.Fatal(err)
		}
		return time.Duration(n) * 10 * time.Millisecond
	}
	pages, err := strconv.Atoi(fields[24-3])
	if err != nil {
		b.Fatal(err)
	}
	return ticks(14) + ticks(15), ticks(16) + ticks(17), float64(pages*os.Getpagesize()) / (1 << 20)
}

func freePort(b *testing.B) int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// BenchmarkHost is an agent in a process of its own with 1,000 services of 10
// backends each, a real ZooKeeper and a real HAProxy: the cold start, then 50
// changes a second for 30 seconds (b.N is not what counts), then nothing. A
// change is one entry: it gets another weight, goes, or comes back a second
// later, in turns.
//
// s-cold is until HAProxy has everything, s-cold-cpu the CPU time of the agent
// and of HAProxy's start until then: what s-cold is near to on an idle machine.
// ms-first-change is how long a server takes that comes right then, while the ten
// thousand are probed, and s-probes-cpu what the agent uses until it is quiet.
// ms-change-p99 is from before the write of the znode to the server in HAProxy
// being as it says, its probe included when it comes; every change is watched.
// s-churn-cpu is all of the agent's in 30 s, allocs/change and kB/change what it
// leaves to its garbage collector.
func BenchmarkHost(b *testing.B) {
	const perSecond, churn = 50, 30 * time.Second
	h := newBenchHost(b, 1000, 10)
	begin := time.Now()
	agent := newChildAgent(b, h.config)
	pid := agent.cmd.Process.Pid
	first := h.complete(begin)
	cold := time.Since(begin)
	own, children, _ := used(b, pid)
	coldCPU := own + children
	arrived := h.arrive()
	crowded, _, _ := used(b, pid)
	// The first probes are not what runs all day.
	quiet(b, pid)
	probed, _, settled := used(b, pid)
	for b.Loop() {
		objects, bytes := h.allocated()
		before, _, _ := used(b, pid)
		var watching sync.WaitGroup
		var mu sync.Mutex
		took := map[string][]time.Duration{}
		ticker := time.NewTicker(time.Second / perSecond)
		begin := time.Now()
		for n := 0; time.Since(begin) < churn; n++ {
			<-ticker.C
			change := h.change(n)
			written := time.Now()
			change.write()
			watching.Go(func() {
				change.seen()
				mu.Lock()
				defer mu.Unlock()
				d := time.Since(written)
				took[change.kind], took["change"] = append(took[change.kind], d), append(took["change"], d)
			})
		}
		ticker.Stop()
		last := time.Now()
		watching.Wait()
		b.ReportMetric(float64(time.Since(last).Microseconds())/1000, "ms-behind")
		after, _, _ := used(b, pid)
		for kind, all := range took {
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "ms-"+kind+"-p99")
		}
		b.ReportMetric(float64(took["change"][len(took["change"])/2].Microseconds())/1000, "ms-change-p50")
		b.ReportMetric((after - before).Seconds(), "s-churn-cpu")
		changes := float64(len(took["change"]))
		nowObjects, nowBytes := h.allocated()
		b.ReportMetric((nowObjects-objects)/changes, "allocs/change")
		b.ReportMetric((nowBytes-bytes)/changes/1000, "kB/change")
	}
	_, _, rss := used(b, pid)
	b.ReportMetric(rss, "MB-after-churn")
	b.ReportMetric(float64(arrived.Microseconds())/1000, "ms-first-change")
	b.ReportMetric((probed - crowded).Seconds(), "s-probes-cpu")
	b.ReportMetric(settled, "MB")
	b.ReportMetric(cold.Seconds(), "s-cold")
	b.ReportMetric(coldCPU.Seconds(), "s-cold-cpu")
	if now, _ := h.servers(); now != first {
		b.Errorf("HAProxy %d became %d: there was a reload", first, now)
	}
	b.ReportMetric(idle(b, pid), "%-idle")
}

// idle is the share of a core that a process uses which has nothing to do.
func idle(b *testing.B, pid int) float64 {
	b.Helper()
	quiet(b, pid)
	const long = 15 * time.Second
	before, _, _ := used(b, pid)
	time.Sleep(long)
	after, _, _ := used(b, pid)
	return 100 * (after - before).Seconds() / long.Seconds()
}

// A benchHost is what an agent of many services needs around it.
type benchHost struct {
	b                  *testing.B
	services, backends int
	config             sysconfig.Config
	registry           *registry.ZooKeeper
	port               int // all backends are one listener
	nodes              map[string]registry.Node
	gone               []string // keys of nodes
}

func newBenchHost(b *testing.B, services, backends int) *benchHost {
	b.Helper()
	server := zktest.Start(b)
	conn, err := zk.Dial(zk.Options{Servers: server.Addr(), Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go srv.Serve(l)
	b.Cleanup(func() { srv.Close() })
	soa := b.TempDir()
	h := &benchHost{
		b: b, services: services, backends: backends, registry: registry.NewZooKeeper(conn), port: l.Addr().(*net.TCPAddr).Port, nodes: map[string]registry.Node{},
	}
	for s := range services {
		write(b, filepath.Join(soa, fmt.Sprintf("service%d", s), "smartstack.yaml"), fmt.Sprintf("main: {proxy_port: %d}\n", 21000+s))
		for i := range backends {
			h.nodes[h.key(s, i)] = h.node(s, i, 10)
		}
	}
	var fill sync.WaitGroup
	for part := range 8 {
		fill.Go(func() {
			for s := part; s < services; s += 8 {
				var entries []registry.Entry
				for i := range backends {
					entries = append(entries, h.nodes[h.key(s, i)].Entry)
				}
				if err := h.registry.Apply(context.Background(), h.name(s), entries, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	fill.Wait()
	c := hostConfig(b, server.Addr(), soa)
	c.Smartstack.Listen, c.Smartstack.StatsListen = fmt.Sprintf("127.0.0.1:%d", freePort(b)), fmt.Sprintf("127.0.0.1:%d", freePort(b))
	c.Smartstack.BindAddresses, c.Smartstack.SetupAddress, c.Smartstack.MaxConn = []string{"127.0.0.1"}, false, 4000
	c.Smartstack.Reload.Protect = "none"
	h.config = c
	return h
}

// allocated is what the agent has allocated since it began.
func (h *benchHost) allocated() (objects, bytes float64) {
	h.b.Helper()
	resp, err := http.Get("http://" + h.config.Smartstack.Listen + "/metrics")
	if err != nil {
		h.b.Fatal(err)
	}
	defer resp.Body.Close()
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			h.b.Fatal(err)
		}
		return n
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch name, value, _ := strings.Cut(lines.Text(), " "); name {
		case "go_memstats_mallocs_total":
			objects = number(value)
		case "go_memstats_alloc_bytes_total":
			bytes = number(value)
		}
	}
	return objects, bytes
}

func (h *benchHost) name(s int) string   { return fmt.Sprintf("service%d.main", s) }
func (h *benchHost) key(s, i int) string { return fmt.Sprintf("%s/%d", h.name(s), i) }

func (h *benchHost) node(s, i, weight int) registry.Node {
	e := registry.Entry{
		Host: fmt.Sprintf("127.%d.%d.%d", 1+s/250, s%250, i+1), Port: h.port, Name: fmt.Sprintf("host%d", i), Weight: weight,
		Labels: map[string]string{"region:west1": "", "superregion:west": "", registry.LabelCluster: "bench", registry.LabelTaskID: fmt.Sprintf("%s.git01234567.config01234567.%d", h.name(s), i)},
	}
	return registry.Node{Entry: e, Path: registry.Root + "/" + h.name(s) + "/" + registry.NodeName(e, 0)}
}

func (h *benchHost) runtime() *haproxy.Runtime {
	return haproxy.Process{Dir: h.config.Smartstack.StateDir}.Runtime()
}

// servers counts those that HAProxy has.
func (h *benchHost) servers() (pid, n int) {
	in, err := h.runtime().Info(context.Background())
	if err != nil {
		return 0, 0
	}
	states, err := h.runtime().ServerStates(context.Background(), in.PID)
	if err != nil {
		return 0, 0
	}
	return in.PID, len(states)
}

// complete waits until HAProxy has everything.
func (h *benchHost) complete(begin time.Time) (pid int) {
	h.b.Helper()
	for {
		pid, n := h.servers()
		if n == h.services*h.backends {
			return pid
		}
		if time.Since(begin) > time.Minute {
			h.b.Fatalf("%d servers after a minute", n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A hostChange is a change of one entry.
type hostChange struct {
	kind  string
	write func()
	seen  func() // waits until HAProxy has it
}

func (h *benchHost) change(n int) hostChange {
	s := n % h.services
	kind, key := "weigh", h.key(s, 0)
	switch {
	case n%3 == 1:
		kind, key = "gone", h.key(s, 1+n/h.services%(h.backends-1))
		h.gone = append(h.gone, key)
	case n%3 == 2 && len(h.gone) > 20: // it went more than a second ago
		kind, key = "come", h.gone[0]
		h.gone = h.gone[1:]
	}
	name, i, _ := strings.Cut(key, "/")
	old := h.nodes[key]
	next := old
	var add []registry.Entry
	var remove []registry.Node
	if kind != "come" {
		remove = append(remove, h.there(name, old))
	}
	if kind == "weigh" {
		at, _ := strconv.Atoi(i) // our own
		next = h.node(s, at, old.Weight%200+1)
		h.nodes[key] = next
	}
	if kind != "gone" {
		add = append(add, next.Entry)
	}
	return hostChange{
		kind: kind,
		write: func() {
			if err := h.registry.Apply(context.Background(), name, add, remove); err != nil {
				h.b.Error(err)
			}
		},
		seen: func() { h.await(kind, name, next) },
	}
}

// there returns a node as the registry has it: its sequence is ZooKeeper's.
func (h *benchHost) there(name string, n registry.Node) registry.Node {
	h.b.Helper()
	set, err := h.registry.List(context.Background(), name)
	if err != nil {
		h.b.Fatal(err)
	}
	at := slices.IndexFunc(set.Nodes, func(x registry.Node) bool { return x.Host == n.Host && x.Port == n.Port })
	if at < 0 {
		h.b.Fatalf("%s has no %s", name, n.Host)
	}
	return set.Nodes[at]
}

// await waits until HAProxy has a change of a node of a registration.
func (h *benchHost) await(kind, name string, n registry.Node) {
	begin, server := time.Now(), fmt.Sprintf("%s_%s:%d", n.Name, n.Host, n.Port)
	// Each look costs HAProxy and this machine's two cores: one that has waited
	// long looks less often, and measures as finely for what it is.
	for ; time.Since(begin) < 10*time.Second; time.Sleep(max(time.Millisecond, time.Since(begin)/20)) {
		states, err := h.runtime().ServerStates(context.Background(), 0, name)
		at := slices.IndexFunc(states, func(x haproxy.ServerState) bool { return x.Name == server && !x.Maint })
		if err == nil && (kind == "gone" && at < 0 || kind != "gone" && at >= 0 && states[at].Weight == n.Weight) {
			return
		}
	}
	h.b.Errorf("%s %s: not seen", kind, server)
}

// arrive registers one server more, whose probe others wait for, and returns how
// long it takes until HAProxy has it. It goes again.
func (h *benchHost) arrive() time.Duration {
	h.b.Helper()
	node := h.node(h.services/2, h.backends, 10)
	apply := func(add []registry.Entry, remove []registry.Node) {
		if err := h.registry.Apply(context.Background(), h.name(h.services/2), add, remove); err != nil {
			h.b.Fatal(err)
		}
	}
	begin := time.Now()
	apply([]registry.Entry{node.Entry}, nil)
	h.await("come", h.name(h.services/2), node)
	took := time.Since(begin)
	apply(nil, []registry.Node{h.there(h.name(h.services/2), node)})
	return took
}

// quiet waits until a process uses little CPU time, at most a minute.
func quiet(b *testing.B, pid int) {
	b.Helper()
	last, _, _ := used(b, pid)
	for range 60 {
		time.Sleep(time.Second)
		now, _, _ := used(b, pid)
		if now-last < 50*time.Millisecond {
			return
		}
		last = now
	}
}
