package smartstack

import (
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
// changes a second for 30 seconds (b.N is not what counts), then nothing.
//
// s-cold is until HAProxy has everything, s-cold-cpu the CPU time of the agent
// and of HAProxy's start until then: what s-cold is near to on an idle machine.
// ms-change-p99 is from before the znode's write to the server's new weight in
// HAProxy. s-churn-cpu is all of the agent's in 30 s.
func BenchmarkHost(b *testing.B) {
	const services, backends, perSecond, churn = 1000, 10, 50, 30 * time.Second
	zkServer := zktest.Start(b)
	conn, err := zk.Dial(zk.Options{Servers: zkServer.Addr(), Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	l, err := net.Listen("tcp", "0.0.0.0:0") // all backends are this one
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go srv.Serve(l)
	defer srv.Close()
	port := l.Addr().(*net.TCPAddr).Port
	soa := b.TempDir()
	name := func(s int) string { return fmt.Sprintf("service%d.main", s) }
	entries := func(s, weight int) (list []registry.Entry) {
		for i := range backends {
			e := registry.Entry{
				Host: fmt.Sprintf("127.%d.%d.%d", 1+s/250, s%250, i+1), Port: port, Name: fmt.Sprintf("host%d", i), Weight: 10,
				Labels: map[string]string{"region:west1": "", "superregion:west": "", registry.LabelCluster: "bench", registry.LabelTaskID: fmt.Sprintf("service%d.main.git01234567.config01234567.%d", s, i)},
			}
			if i == 0 {
				e.Weight = weight
			}
			list = append(list, e)
		}
		return list
	}
	var fill sync.WaitGroup
	for part := range 8 {
		fill.Go(func() {
			for s := part; s < services; s += 8 {
				if err := putAll(conn, name(s), entries(s, 10)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for s := range services {
		dir := filepath.Join(soa, fmt.Sprintf("service%d", s))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "smartstack.yaml"), fmt.Appendf(nil, "main: {proxy_port: %d}\n", 21000+s), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	fill.Wait()
	c := hostConfig(b, zkServer.Addr(), soa)
	c.Smartstack.Listen, c.Smartstack.StatsListen = fmt.Sprintf("127.0.0.1:%d", freePort(b)), fmt.Sprintf("127.0.0.1:%d", freePort(b))
	c.Smartstack.BindAddresses, c.Smartstack.SetupAddress, c.Smartstack.MaxConn = []string{"127.0.0.1"}, false, 4000
	c.Smartstack.Reload.Protect = "none"
	runtime := haproxy.Process{Dir: c.Smartstack.StateDir}.Runtime()
	stats := func() (pid int, byServer map[string]haproxy.Row) {
		in, err := runtime.Info(context.Background())
		if err != nil {
			return 0, nil
		}
		rows, err := runtime.Stats(context.Background(), in.PID)
		if err != nil {
			return 0, nil
		}
		byServer = map[string]haproxy.Row{}
		for _, r := range rows {
			if strings.HasPrefix(r.Server, "host") {
				byServer[r.Proxy+"/"+r.Server] = r
			}
		}
		return in.PID, byServer
	}

	begin := time.Now()
	agent := newChildAgent(b, c)
	pid := agent.cmd.Process.Pid
	var first int
	for {
		var all map[string]haproxy.Row
		if first, all = stats(); len(all) == services*backends {
			break
		}
		if time.Since(begin) > time.Minute {
			b.Fatalf("%d servers after a minute", len(all))
		}
		time.Sleep(20 * time.Millisecond)
	}
	cold := time.Since(begin)
	own, children, _ := used(b, pid)
	coldCPU := own + children
	// The first probes are not what runs all day.
	quiet(b, pid)
	_, _, rss := used(b, pid)
	settled := rss
	for b.Loop() {
		before, _, _ := used(b, pid)
		var took []time.Duration
		ticker := time.NewTicker(time.Second / perSecond)
		begin := time.Now()
		for n := 0; time.Since(begin) < churn; n++ {
			<-ticker.C
			s := n % services
			weight := 11 + n/services
			written := time.Now()
			if err := putAll(conn, name(s), entries(s, weight)); err != nil {
				b.Fatal(err)
			}
			if n%25 != 24 {
				continue
			}
			for { // one in 25 is watched until HAProxy has it
				states, err := runtime.ServerStates(context.Background(), 0, name(s))
				if err == nil && slices.ContainsFunc(states, func(x haproxy.ServerState) bool { return x.Weight == weight }) {
					break
				}
				time.Sleep(time.Millisecond)
			}
			took = append(took, time.Since(written))
		}
		ticker.Stop()
		after, _, _ := used(b, pid)
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-change-p99")
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-change-p50")
		b.ReportMetric((after - before).Seconds(), "s-churn-cpu")
	}
	_, _, rss = used(b, pid)
	b.ReportMetric(rss, "MB-after-churn")
	b.ReportMetric(settled, "MB")
	b.ReportMetric(cold.Seconds(), "s-cold")
	b.ReportMetric(coldCPU.Seconds(), "s-cold-cpu")
	now, _ := stats()
	if now != first {
		b.Errorf("HAProxy %d became %d: there was a reload", first, now)
	}
	quiet(b, pid)
	before, _, _ := used(b, pid)
	const idle = 15 * time.Second
	time.Sleep(idle)
	after, _, _ := used(b, pid)
	b.ReportMetric(100*(after-before).Seconds()/idle.Seconds(), "%-idle")
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
