package plug

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// testReloads reloads a real HAProxy under light load, behind the plug.
func testReloads(t *testing.T, method Method, reloads int) {
	paastatest.Need(t, "haproxy")
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })}
	go srv.Serve(backend)
	defer srv.Close()

	h := &haproxyDaemon{dir: t.TempDir()}
	config := fmt.Sprintf(`global
  nbthread 1
  stats socket %s/admin.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen web
  bind %s:20001
  server a %s
`, h.dir, DefaultAddress, backend.Addr())
	if err := os.WriteFile(filepath.Join(h.dir, "haproxy.cfg"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	defer h.stop()

	// A hold may be long here: the machine is slow.
	p := newPlug(t, Options{Protect: method, Hold: 30 * time.Second})
	before, passed := retransmitted(t), status(t, p).Passed
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var requests, failed atomic.Int64
	defer clients.Wait()
	defer stop()
	for range 2 {
		clients.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 50 * time.Second}
			for ctx.Err() == nil {
				answer, err := c.Get("http://" + DefaultAddress.String() + ":20001/")
				if err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
				if err != nil || answer.StatusCode != http.StatusOK {
					failed.Add(1)
					t.Errorf("request: %v", err)
				}
				requests.Add(1)
				time.Sleep(20 * time.Millisecond) // the load is light
			}
		})
	}
	for n := range reloads {
		had := requests.Load()
		paastatest.Until(t, "requests", func() bool { return requests.Load() > had+2 })
		hold(t, p)
		paastatest.Until(t, "a client to wait", func() bool { return status(t, p).Waiting > 0 })
		h.start(t)
		release(t, p)
		t.Logf("reload %d: held %s, %d requests so far", n+1, p.Holds().Last.Round(time.Millisecond), requests.Load())
	}
	stop()
	clients.Wait()
	st, held := status(t, p), p.Holds()
	if held.Done != reloads || held.Lapsed != 0 || held.Waited < reloads {
		t.Errorf("holds: %+v, want %d with at least a SYN each", held, reloads)
	}
	if method == Qdisc && st.Passed-passed < uint64(reloads) {
		t.Errorf("the plug qdisc counted %d packets, want at least %d", st.Passed-passed, reloads)
	}
	if st.Dropped != 0 {
		t.Errorf("%d SYNs were dropped", st.Dropped)
	}
	// A SYN that waited for more than a second was sent again, and waited too:
	// on a slow machine that is not a loss.
	t.Logf("%d requests, %d failed, %d reloads, %d SYNs waited, longest hold %s, %d sent again",
		requests.Load(), failed.Load(), reloads, held.Waited, held.Max.Round(time.Millisecond), retransmitted(t)-before)
}

// haproxyDaemon starts HAProxy in the background, and replaces it.
type haproxyDaemon struct {
	dir  string
	pids []int
}

func (h *haproxyDaemon) start(t *testing.T) {
	t.Helper()
	args := []string{"-D", "-p", filepath.Join(h.dir, "pid"), "-f", filepath.Join(h.dir, "haproxy.cfg")}
	if n := len(h.pids); n > 0 {
		args = append(args, "-x", filepath.Join(h.dir, "admin.sock"), "-sf", strconv.Itoa(h.pids[n-1]))
	}
	cmd := exec.CommandContext(t.Context(), "haproxy", args...)
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("start haproxy: %v\n%s", err, text)
	}
	text, err := os.ReadFile(filepath.Join(h.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	h.pids = append(h.pids, pid)
}

func (h *haproxyDaemon) stop() {
	for _, pid := range h.pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(text), h.dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// testContainers holds connections that come from a namespace behind a bridge,
// as a container's do.
func testContainers(t *testing.T, method Method) {
	const bridge, network = "plugbr0", "10.99.0.1/24"
	run(t, ".", "ip", "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "link", "del", bridge).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	run(t, ".", "ip", "addr", "add", network, "dev", bridge)
	run(t, ".", "ip", "link", "set", bridge, "up")
	ns := newContainer(t, bridge)
	s := startServer(t)

	p := newPlug(t, Options{Protect: method, Interfaces: []string{"lo", bridge}})
	if took := ns.connect(t, s); took > 10*time.Second {
		t.Errorf("a container's connection took %s without a hold", took)
	}
	hold(t, p)
	got := make(chan time.Duration, 1)
	go func() { got <- ns.connect(t, s) }()
	local := s.dial(DefaultAddress.String(), 3)
	paastatest.Until(t, "the container and three local clients to wait", func() bool { return status(t, p).Waiting == 4 })
	release(t, p)
	local.wait(t, late)
	<-got
	if st := status(t, p); st.Waiting != 0 || st.Dropped != 0 {
		t.Errorf("after release: %+v", st)
	}
	clearPlug(t, p)
}

type container struct{ name string }

// newContainer makes a namespace with one leg on a bridge.
func newContainer(t *testing.T, bridge string) container {
	t.Helper()
	c := container{fmt.Sprintf("plugc%d", os.Getpid())}
	run(t, ".", "ip", "netns", "add", c.name)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", c.name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	run(t, ".", "ip", "link", "add", "plugv0", "master", bridge, "type", "veth", "peer", "name", "eth0", "netns", c.name)
	run(t, ".", "ip", "link", "set", "plugv0", "up")
	run(t, ".", "ip", "-n", c.name, "addr", "add", "10.99.0.2/24", "dev", "eth0")
	run(t, ".", "ip", "-n", c.name, "link", "set", "eth0", "up")
	run(t, ".", "ip", "-n", c.name, "route", "add", "default", "via", "10.99.0.1")
	return c
}

// connect connects to the server from inside, and says how long that took; -1
// if it failed, which fails the test.
func (c container) connect(t *testing.T, s *server) time.Duration {
	took := make(chan time.Duration, 1)
	go func() {
		// This thread stays in the container's namespace and ends with the
		// goroutine.
		runtime.LockOSThread()
		h, err := netns.GetFromName(c.name)
		if err == nil {
			err = netns.Set(h)
			h.Close()
		}
		start := time.Now()
		var fd int
		if err == nil {
			fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		}
		if err == nil {
			err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: s.port, Addr: DefaultAddress.As4()})
			syscall.Close(fd)
		}
		if err != nil {
			t.Errorf("connect from the container: %v", err)
			took <- -1
			return
		}
		took <- time.Since(start)
	}()
	return <-took
}

// testForeign sets the plug up beside queueing disciplines of others.
func testForeign(t *testing.T, method Method) {
	run(t, ".", "tc", "qdisc", "add", "dev", "lo", "root", "handle", "7:", "tbf", "rate", "10gbit", "burst", "10mb", "latency", "1s")
	run(t, ".", "tc", "qdisc", "add", "dev", "lo", "clsact")
	before := kernelState(t)
	p := newPlug(t, Options{Protect: method})
	s := startServer(t)
	hold(t, p)
	d := s.dial(DefaultAddress.String(), 2)
	paastatest.Until(t, "them to wait", func() bool { return status(t, p).Waiting == 2 })
	if method == Qdisc {
		if got := strings.Join(status(t, p).Foreign, ", "); got != "lo: tbf, lo: clsact" {
			t.Errorf("foreign disciplines: %q", got)
		}
	}
	release(t, p)
	d.wait(t, late)
	clearPlug(t, p)
	if got := kernelState(t); got != before {
		t.Errorf("after clear:\n%s\nbefore setup:\n%s", got, before)
	}
	run(t, ".", "tc", "qdisc", "del", "dev", "lo", "root")
	run(t, ".", "tc", "qdisc", "del", "dev", "lo", "clsact")

	if method != Qdisc {
		return
	}
	// Somebody else's device under our name, and somebody's qdisc on our device.
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: ifbName}}); err != nil {
		t.Fatal(err)
	}
	wantForeign(t, p)
	run(t, ".", "ip", "link", "del", ifbName)
	run(t, ".", "ip", "link", "add", ifbName, "type", "ifb")
	run(t, ".", "tc", "qdisc", "add", "dev", ifbName, "root", "handle", "9:", "prio")
	wantForeign(t, p)
	run(t, ".", "ip", "link", "del", ifbName)
}

func wantForeign(t *testing.T, p *Plug) {
	t.Helper()
	before := kernelState(t)
	if err := p.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), ErrForeign.Error()) {
		t.Errorf("setup: %v, want that it %v", err, ErrForeign)
	}
	if got := kernelState(t); got != before {
		t.Errorf("a refused setup changed:\n%s\nto:\n%s", before, got)
	}
}
