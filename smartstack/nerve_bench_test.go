package smartstack

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

// BenchmarkLocalServices is an agent in a process of its own with 100 services of
// its host, each with an HTTP check every two seconds: how long from the start of
// the process until all are registered, and what it uses from then on (b.N is not
// what counts).
func BenchmarkLocalServices(b *testing.B) {
	const services = 100
	server := zktest.Start(b)
	conn, err := zk.Dial(zk.Options{Servers: server.Addr(), Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go srv.Serve(l)
	defer srv.Close()
	c := hostConfig(b, server.Addr(), b.TempDir())
	c.Smartstack.Listen, c.Smartstack.StatsListen = fmt.Sprintf("127.0.0.1:%d", freePort(b)), fmt.Sprintf("127.0.0.1:%d", freePort(b))
	c.Smartstack.BindAddresses, c.Smartstack.SetupAddress, c.Smartstack.Reload.Protect = []string{"127.0.0.1"}, false, "none"
	c.Smartstack.Nerve, c.Smartstack.ServicesDir = true, b.TempDir()
	name := func(s int) string { return fmt.Sprintf("service%d.main", s) }
	for s := range services {
		file := filepath.Join(c.Smartstack.ServicesDir, name(s)+".yaml")
		write(b, file, fmt.Sprintf("port: %d\nhost: 127.0.0.1\nchecks: [{type: http, uri: /status}]\n", l.Addr().(*net.TCPAddr).Port))
	}
	entries := registry.NewZooKeeper(conn)
	registered := func(s int) bool {
		set, err := entries.List(context.Background(), name(s))
		return err == nil && len(set.Nodes) == 1
	}
	for b.Loop() {
		begin := time.Now()
		agent := newChildAgent(b, c)
		for s := range services {
			for !registered(s) {
				if time.Since(begin) > time.Minute {
					b.Fatalf("%s is not registered after a minute", name(s))
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s-registered")
		own, _, _ := used(b, agent.cmd.Process.Pid)
		b.ReportMetric(own.Seconds(), "s-registered-cpu")
		b.ReportMetric(idle(b, agent.cmd.Process.Pid), "%-idle")
		_, _, rss := used(b, agent.cmd.Process.Pid)
		b.ReportMetric(rss, "MB")
		agent.kill()
	}
}
