package smartstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
	"github.com/gopaasta/paasta/smartstack/internal/accesslog"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// TestDrainWaits takes a local service, whose host is a name, out and back, with
// a connection that goes on meanwhile, on a whole agent.
func TestDrainWaits(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	soa, services := t.TempDir(), t.TempDir()
	write(t, filepath.Join(soa, "ledger", "smartstack.yaml"), "primary: {proxy_port: 20090, mode: tcp, timeout_server_ms: 60000, updown_timeout_s: 0.5}\n")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // says hello, and goes on until the client is done
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { fmt.Fprintln(c, "hello"); io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	write(t, filepath.Join(services, "ledger.primary.yaml"), fmt.Sprintf("host: localhost\nport: %d\ncheck_interval: 0.05\n", l.Addr().(*net.TCPAddr).Port))
	c := hostConfig(t, zktest.Start(t).Addr(), soa)
	c.Smartstack.Nerve, c.Smartstack.ServicesDir = true, services
	c.DrainGrace = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- start(ctx, c, Wiring{}, slog.New(slog.DiscardHandler)) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	w := Wiring{Config: func() (sysconfig.Config, error) { return c, nil }}
	run := func(make func(Wiring) command.Command, args ...string) (string, error) {
		t.Helper()
		cmd := make(w)
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		cmd.Flags(flags)
		if err := flags.Parse(args); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := cmd.Run(t.Context(), command.IO{Out: &out, Err: &out}, flags.Args())
		return out.String(), err
	}
	says := func(out string, err error, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out+fmt.Sprint(err), w) {
				t.Errorf("no %q in\n%s%v", w, out, err)
			}
		}
	}
	eventually(t, "http://127.0.0.1:3213/v1/services", `"up":true`)
	out, err := run(undrainCommand, "ledger.primary", "--wait", "--timeout", "20s")
	says(out, err, "was not draining", "done after", "<nil>")

	client, err := net.Dial("tcp", "169.254.255.254:20090")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.ReadFull(client, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	// Its updown_timeout_s is short, and the client stays.
	out, err = run(drainCommand, "ledger.primary", "--wait")
	says(out, err, "drains until it is undrained", "waiting up to 500ms", "wait for ledger.primary: after 500ms still ")
	out, err = run(drainCommand, "ledger.primary", "--wait", "--timeout", "3s")
	says(out, err, "still for its connections to end: ")
	go func() { // it goes once it is the only thing that is waited for
		eventually(t, "http://127.0.0.1:3213/v1/backends/ledger.primary", `"weight":0`)
		time.Sleep(200 * time.Millisecond) // let the command say so; nothing depends on it
		client.Close()
	}()
	out, err = run(drainCommand, "ledger.primary", "--wait", "--timeout", "20s")
	says(out, err, "for hosts with synapse to see it: 300ms left", "done after", "<nil>")
	conn, err := zk.Dial(zk.Options{Servers: c.ZooKeeper, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	set, err := registry.NewZooKeeper(conn).List(t.Context(), "ledger.primary")
	if err != nil || len(set.Nodes) != 1 || !set.Nodes[0].Draining() {
		t.Errorf("where synapse reads there is %+v, %v", set.Nodes, err)
	}
	eventually(t, "http://127.0.0.1:3213/v1/connections?host=127.0.0.1&port="+fmt.Sprint(l.Addr().(*net.TCPAddr).Port), `"connections":0`)
	eventually(t, "http://127.0.0.1:3213/v1/backends/ledger.primary", `"up":false`)

	out, err = run(undrainCommand, "ledger.primary", "--wait", "--timeout", "20s")
	says(out, err, "takes traffic again", "done after", "<nil>")
	eventually(t, "http://127.0.0.1:3213/v1/backends/ledger.primary", `"up":true`)

	out, err = run(drainCommand, "ledger.secondary", "--wait")
	says(out, err, `has no service "ledger.secondary"`)
	out, err = run(drainCommand, "ledger.primary", "--timeout", "20s")
	says(out, err, "--timeout without --wait")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	done <- nil
	out, err = run(drainCommand, "ledger.primary", "--wait")
	says(out, err, "connection refused")
}

// A service at an address of IPv6 is found in HAProxy, so that its drain is
// waited for.
func TestSameAddress(t *testing.T) {
	t.Parallel()
	for at, b := range map[string]paasta.AgentBackend{
		"10.0.0.1:80":  {Name: "h_10.0.0.1:80", Host: "10.0.0.1", Port: 80},
		"[fd00::1]:80": {Name: "h_fd00::1:80", Host: "fd00::1", Port: 80},
		"db.local:80":  {Name: "h_10.0.0.1:80", Host: "db.local", Port: 80},
	} {
		if !sameAddress(b, at) {
			t.Errorf("%+v is not at %s", b, at)
		}
		if b.Port++; sameAddress(paasta.AgentBackend{Name: "h_other:81", Host: b.Host, Port: b.Port}, at) {
			t.Errorf("%+v is at %s", b, at)
		}
	}
}

// What HAProxy dropped while no agent listened is not said to be missing now.
func TestDropsOfAnAdoptedHAProxy(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := &requestLog{log: slog.New(slog.DiscardHandler), socket: &accesslog.Socket{}, begun: now}
	for _, in := range []haproxy.Info{
		{PID: 7, StartSeconds: now.Unix() - 60, DroppedLogs: 1000}, // adopted
		{PID: 7, StartSeconds: now.Unix() - 60, DroppedLogs: 1002},
		{PID: 8, StartSeconds: now.Unix() + 1, DroppedLogs: 3}, // ours
	} {
		r.drops(in)
	}
	if n := r.dropped.Load(); n != 5 {
		t.Errorf("%d lines dropped, want 5", n)
	}
}
