package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// largeHost is 1,000 services with 10 backends each, which are one listener: all of
// 127/8 is this machine.
func largeHost(b *testing.B, services, backends int) (*host, *memory, func(service, backend int) registry.Entry) {
	b.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	entry := func(service, backend int) registry.Entry {
		return registry.Entry{
			Host: fmt.Sprintf("127.%d.%d.%d", 1+service/250, service%250, backend+1), Port: port, Name: fmt.Sprintf("host%d", backend), Weight: 10,
			Labels: map[string]string{"region:west1": "", registry.LabelCluster: "bench", registry.LabelTaskID: fmt.Sprintf("task-%d-%d", service, backend)},
		}
	}
	reg := newMemory()
	h := newHost(b, reg)
	h.options.Log = slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		h.options.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	tree := &soaconfig.Tree{Services: map[string]*soaconfig.Service{}}
	for s := range services {
		name := fmt.Sprintf("service%d", s)
		proxy := 21000 + s
		tree.Services[name] = &soaconfig.Service{Name: name, Namespaces: soaconfig.Entries[soaconfig.Namespace]{Valid: map[string]soaconfig.Namespace{"main": {
			Service: name, Name: "main", ProxyPort: &proxy, Registered: true, Mode: "http", HealthcheckMode: "tcp", Discover: "region", Advertise: []string{"region"},
		}}}}
		var entries []registry.Entry
		for i := range backends {
			entries = append(entries, entry(s, i))
		}
		reg.put(name+".main", entries...)
	}
	h.tree = tree
	return h, reg, entry
}

// BenchmarkLargeHost is an agent with 1,000 services of 10 backends each: from
// nothing to a complete HAProxy, then one change at a time from the registry to
// the runtime API's answer, then changes of a timeout, each of which takes a
// config, its check and a reload.
func BenchmarkLargeHost(b *testing.B) {
	const services, backends = 1000, 10
	h, reg, entry := largeHost(b, services, backends)
	var mu sync.Mutex
	applied := map[string]int64{}
	changed := make(chan struct{})
	h.options.Applied = func(versions map[string]int64, _ []string) {
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(applied, versions)
		close(changed)
		changed = make(chan struct{})
	}
	before := rss(b)
	begin := time.Now()
	h.start()
	// Complete: HAProxy runs with everything. Verified: every probe has passed too.
	eventually(b, func() error {
		states, err := h.options.Process.Runtime().ServerStates(b.Context(), 0)
		if err != nil || len(states) != services*backends {
			return fmt.Errorf("HAProxy has %d servers: %w", len(states), err)
		}
		return nil
	})
	cold := time.Since(begin)
	eventually(b, func() error {
		for _, r := range h.agent.Status().Registrations {
			if r.States["up"] != backends {
				return fmt.Errorf("%s: %v", r.Name, r.States)
			}
		}
		return nil
	})
	verified := time.Since(begin)
	n := 0
	for b.Loop() {
		n++
		s := n % services
		name := fmt.Sprintf("service%d.main", s)
		entries := []registry.Entry{}
		for i := range backends {
			e := entry(s, i)
			if i == 3 {
				e.Weight = n%2*5 + 1
			}
			entries = append(entries, e)
		}
		reg.put(name, entries...)
		reg.mu.Lock()
		version := reg.zxid
		reg.mu.Unlock()
		for {
			mu.Lock()
			done, next := applied[name] >= version, changed
			mu.Unlock()
			if done {
				break
			}
			<-next
		}
	}
	change := b.Elapsed() / time.Duration(b.N)
	if n := h.reloads(); n != 1 {
		b.Errorf("%d reloads, want the start alone", n)
	}
	// The same host, for what takes a reload.
	const reloads = 3
	begin = time.Now()
	for i := range reloads {
		ns := h.tree.Services["service0"].Namespaces.Valid["main"]
		ns.TimeoutServer = time.Duration(2+i) * time.Second
		h.tree.Services["service0"].Namespaces.Valid["main"] = ns
		h.agent.Namespaces(h.tree)
		eventually(b, func() error {
			if n := h.reloads(); n != i+2 {
				return fmt.Errorf("%d reloads", n)
			}
			return nil
		})
	}
	reload := time.Since(begin) / reloads
	b.ReportMetric(change.Seconds()*1000, "ms-change")
	b.ReportMetric(reload.Seconds()*1000, "ms-reload")
	b.ReportMetric(reload.Seconds()/change.Seconds(), "x-reload")
	runtime.GC()
	b.ReportMetric(rss(b)-before, "MB-more")
	b.ReportMetric(rss(b), "MB-rss")
	b.ReportMetric(cold.Seconds(), "s-cold-start")
	b.ReportMetric(verified.Seconds(), "s-all-probed")
	if file := os.Getenv("HEAP_PROFILE"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := pprof.WriteHeapProfile(f); err != nil {
			b.Fatal(err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-heap")
}

// rss is the memory of this process, the test's own parts included.
func rss(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.Atoi(f[1])
			return float64(kb) / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// BenchmarkZNodeToUp is the time from a znode's write to the server being up in
// HAProxy, probe included, and back, with a real ZooKeeper.
func BenchmarkZNodeToUp(b *testing.B) {
	w := newWorld(b)
	h := newHost(b, w.reg)
	h.options.Log = slog.New(slog.DiscardHandler)
	h.service("web.main", nil)
	one, other := newBackend(b), newBackend(b)
	w.put("web.main", one.entry())
	h.start()
	h.up("web.main", one.port)
	var up, down []time.Duration
	for b.Loop() {
		begin := time.Now()
		w.put("web.main", one.entry(), other.entry())
		h.up("web.main", one.port, other.port)
		up = append(up, time.Since(begin))
		begin = time.Now()
		w.put("web.main", one.entry())
		h.up("web.main", one.port)
		down = append(down, time.Since(begin))
	}
	for name, all := range map[string][]time.Duration{"ms-up-p99": up, "ms-gone-p99": down} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name)
	}
	b.ReportMetric(float64(h.reloads()), "reloads")
}
