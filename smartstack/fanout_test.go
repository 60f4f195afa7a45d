package smartstack

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
)

// BenchmarkFanOut is how long a change takes to be read by the last of many
// agents: sessions of their own, each with the agent's own watcher on a service
// of 10 entries, on one ensemble of three. All run on this machine, in one
// process, so that what is measured includes the CPU time of all of them.
func BenchmarkFanOut(b *testing.B) {
	servers := zktest.StartEnsemble(b)
	ops, err := zk.Dial(zk.Options{Servers: zktest.Addrs(servers), Timeout: 20 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer ops.Close()
	for _, agents := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) { fanOut(b, zktest.Addrs(servers), ops, agents) })
	}
}

func fanOut(b *testing.B, addrs string, ops *zk.Conn, agents int) {
	name := fmt.Sprintf("fan%d.main", agents)
	entries := func(weight int) (list []registry.Entry) {
		for i := range 10 {
			list = append(list, registry.Entry{Host: fmt.Sprintf("10.0.0.%d", i+1), Port: 31000, Name: "host", Weight: weight})
		}
		return list
	}
	weight := 1
	if err := putAll(ops, name, entries(weight)); err != nil {
		b.Fatal(err)
	}
	type seen struct {
		agent, weight int
		at            time.Time
	}
	reads := make(chan seen, agents*16)
	ctx, cancel := context.WithCancel(context.Background())
	for i := range agents {
		conn, err := zk.Dial(zk.Options{Servers: addrs, Timeout: 20 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		w := &discover.Watcher{Registry: registry.NewZooKeeper(conn), Resync: 10 * time.Minute}
		w.Watch(ctx, name, func(set registry.Set, err error) {
			if err == nil && len(set.Nodes) == 10 {
				reads <- seen{i, set.Nodes[0].Weight, time.Now()}
			}
		}, func() {})
		defer w.Wait()
	}
	defer cancel()
	last := func() time.Time {
		all := map[int]bool{}
		timeout := time.After(2 * time.Minute)
		var at time.Time
		for len(all) < agents {
			select {
			case s := <-reads:
				if s.weight == weight && !all[s.agent] {
					all[s.agent] = true
					at = s.at
				}
			case <-timeout:
				b.Fatalf("%d of %d agents have read weight %d", len(all), agents, weight)
			}
		}
		return at
	}
	last()
	var took []time.Duration
	for b.Loop() {
		weight++
		begin := time.Now()
		if err := putAll(ops, name, entries(weight)); err != nil {
			b.Fatal(err)
		}
		took = append(took, last().Sub(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-last-p50")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-last-max")
}
