package plug

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// TestNFQueue holds real connections in a namespace of its own, on the kernel
// that the tests run on.
func TestNFQueue(t *testing.T) {
	t.Parallel()
	if !paastatest.InNamespace(t) {
		return
	}
	if err := Probe(NFQueue); err != nil {
		paastatest.Missing(t, "%v", err)
	}
	testAll(t, NFQueue, 10)
}

// testAll is what holds for every method. It runs inside a namespace.
func testAll(t *testing.T, method Method, reloads int) {
	addLoopbackAddress(t, DefaultAddress.String())
	testHolding(t, method)
	t.Run("others are left alone", func(t *testing.T) { testForeign(t, method) })
	t.Run("containers are held too", func(t *testing.T) { testContainers(t, method) })
	t.Run("HAProxy reloads", func(t *testing.T) { testReloads(t, method, reloads) })
}

// soon is how long a connection may take that nothing holds. The machine that
// runs the tests is busy, and the virtual one slow.
const soon = 400 * time.Millisecond

// late is what a new connection may take whatever has been killed.
const late = 1500 * time.Millisecond

// resent is what a connection may take that waited in what was killed. It comes
// through when its SYN is sent again: after one second, or after three where
// the emulated machine was so slow that the second SYN was held as well.
const resent = late + 3*time.Second

func testHolding(t *testing.T, method Method) {
	s := startServer(t)

	t.Run("connections wait until release and none is retransmitted", func(t *testing.T) {
		p := newPlug(t, Options{Protect: method})
		before := retransmitted(t)
		hold(t, p)
		dials := s.dial(DefaultAddress.String(), 20)
		paastatest.Until(t, "all 20 to wait", func() bool { return status(t, p).Waiting == 20 })
		if st := status(t, p); !st.Holding || !st.SetUp {
			t.Errorf("status while holding: %+v", st)
		}
		if took := s.connect(t, "127.0.0.1"); took > soon {
			t.Errorf("a connection to 127.0.0.1, which is not held, took %s", took)
		}
		if n := dials.done(); n != 0 {
			t.Errorf("%d connections came through a closed plug", n)
		}
		release(t, p)
		dials.wait(t, late)
		if n := retransmitted(t) - before; n != 0 {
			t.Errorf("%d SYNs were sent again, want 0", n)
		}
		st := status(t, p)
		if st.Holding || st.Waiting != 0 || st.Dropped != 0 {
			t.Errorf("status after release: %+v", st)
		}
		if h := p.Holds(); h.Done != 1 || h.Lapsed != 0 || h.Waited < 20 {
			t.Errorf("holds: %+v, want 1 done with 20 waited", h)
		}
		if method == Qdisc && st.Passed < 20 {
			t.Errorf("the plug qdisc counted %d packets, want the 20 SYNs that waited in it", st.Passed)
		}
	})

	t.Run("a hold can follow a hold", func(t *testing.T) {
		p := newPlug(t, Options{Protect: method})
		for range 5 {
			hold(t, p)
			d := s.dial(DefaultAddress.String(), 1)
			paastatest.Until(t, "it to wait", func() bool { return status(t, p).Waiting == 1 })
			release(t, p)
			d.wait(t, late)
		}
		if h := p.Holds(); h.Done != 5 || h.Lapsed != 0 {
			t.Errorf("holds: %+v", h)
		}
	})

	t.Run("a hold that lasts too long ends by itself and says so", func(t *testing.T) {
		var log lockedBuffer
		p := newPlug(t, Options{Protect: method, Hold: 300 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
		before := retransmitted(t)
		hold(t, p)
		s.dial(DefaultAddress.String(), 3).wait(t, late)
		paastatest.Until(t, "the log to say so", func() bool { return strings.Contains(log.String(), "held for the longest time allowed") })
		if h := p.Holds(); h.Lapsed != 1 {
			t.Errorf("holds: %+v, want one lapsed", h)
		}
		release(t, p) // no error, although it is too late
		if n := retransmitted(t) - before; n != 0 {
			t.Errorf("%d SYNs were sent again, want 0", n)
		}
	})

	t.Run("beyond the limit connections pass", func(t *testing.T) {
		p := newPlug(t, Options{Protect: method, Limit: 8})
		before := retransmitted(t)
		hold(t, p)
		dials := s.dial(DefaultAddress.String(), 40)
		paastatest.Until(t, "those beyond the limit to pass", func() bool { return dials.done() >= 40-12 })
		if st := status(t, p); st.Waiting == 0 || st.Waiting > 12 {
			t.Errorf("%d wait, want some, and about 8 at most", st.Waiting)
		}
		release(t, p)
		dials.wait(t, late)
		if n := retransmitted(t) - before; n != 0 {
			t.Errorf("%d SYNs were lost, want 0", n)
		}
		if method == Qdisc { // put the usual limit back
			clearPlug(t, p)
		}
	})

	t.Run("two runs take turns", func(t *testing.T) {
		a, b := newPlug(t, Options{Protect: method}), newPlug(t, Options{Protect: method})
		hold(t, a)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := b.Hold(ctx); !errors.Is(err, ErrLocked) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second hold: %v, want that another run has the plug", err)
		}
		got := make(chan error)
		go func() { got <- b.Hold(t.Context()) }()
		time.Sleep(50 * time.Millisecond) // let it queue up; nothing depends on it
		release(t, a)
		if err := <-got; err != nil {
			t.Errorf("a second hold after the first: %v", err)
		}
		release(t, b)
	})

	t.Run("a person can let go of what somebody holds", func(t *testing.T) {
		a, b := newPlug(t, Options{Protect: method}), newPlug(t, Options{Protect: method})
		hold(t, a)
		dials := s.dial(DefaultAddress.String(), 3)
		paastatest.Until(t, "them to wait", func() bool { return status(t, a).Waiting == 3 })
		if err := b.ReleaseAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		dials.wait(t, late)
		release(t, a)
	})

	group := func(pid int) int { return -pid }
	for name, kill := range map[string]func(t *testing.T, holder, guard int){
		"the holder is killed": func(t *testing.T, holder, _ int) { send(t, holder, syscall.SIGKILL) },
		"the holder's process group is killed": func(t *testing.T, holder, _ int) {
			send(t, group(holder), syscall.SIGKILL)
		},
		"the holder is stopped": func(t *testing.T, holder, _ int) { send(t, holder, syscall.SIGSTOP) },
		"the guard is killed":   func(t *testing.T, _, guard int) { send(t, guard, syscall.SIGKILL) },
		"holder and guard are killed": func(t *testing.T, holder, guard int) {
			send(t, guard, syscall.SIGKILL)
			send(t, holder, syscall.SIGKILL)
		},
		"holder and guard are stopped": func(t *testing.T, holder, guard int) {
			send(t, guard, syscall.SIGSTOP)
			send(t, holder, syscall.SIGSTOP)
		},
	} {
		t.Run("connections go on when "+name, func(t *testing.T) {
			p := newPlug(t, Options{Protect: method})
			holder, guard := startHolder(t, method)
			held := s.dial(DefaultAddress.String(), 5)
			// An emulated machine may be so slow that the hold is over before all five
			// have come: then once more.
			for range 2 {
				deadline := time.Now().Add(3 * time.Second)
				for status(t, p).Waiting != 5 && time.Now().Before(deadline) {
					time.Sleep(10 * time.Millisecond)
				}
				if status(t, p).Waiting == 5 {
					break
				}
				send(t, guard, syscall.SIGKILL)
				send(t, holder, syscall.SIGKILL)
				held.wait(t, resent)
				holder, guard = startHolder(t, method)
				held = s.dial(DefaultAddress.String(), 5)
			}
			paastatest.Until(t, "them to wait", func() bool { return status(t, p).Waiting == 5 })
			before := retransmitted(t)
			kill(t, holder, guard)
			if took := s.connect(t, DefaultAddress.String()); took > late {
				t.Errorf("a new connection took %s, want at most %s", took, late)
			}
			held.wait(t, resent)
			if n := retransmitted(t) - before; name == "the guard is killed" && method == Qdisc && n != 0 {
				t.Errorf("%d SYNs were sent again, want 0: the holder lets go at once", n)
			}
			paastatest.Until(t, "nothing to be chosen", func() bool { return !status(t, p).Holding })
			switch name {
			case "the holder is killed", "the holder's process group is killed", "the holder is stopped":
				paastatest.Until(t, "nothing to stay held", func() bool { return status(t, p).Waiting == 0 })
				paastatest.Until(t, "the guard to give the plug back", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					unlock, err := lock(ctx, "test")
					return err == nil && unlock() == nil
				})
			}
			send(t, guard, syscall.SIGKILL)
			send(t, holder, syscall.SIGKILL)
			if err := p.Setup(t.Context()); err != nil { // as at the agent's start
				t.Fatal(err)
			}
			if st := status(t, p); st.Waiting != 0 || st.Holding {
				t.Errorf("after setup: %+v, want nothing held", st)
			}
		})
	}

	t.Run("a frozen guard is done without", func(t *testing.T) {
		p := newPlug(t, Options{Protect: method})
		hold(t, p)
		send(t, p.h.g.cmd.Process.Pid, syscall.SIGSTOP)
		dials := s.dial(DefaultAddress.String(), 3)
		release(t, p)
		dials.wait(t, late+time.Second)
		hold(t, p)
		release(t, p)
	})

	t.Run("clear leaves nothing", func(t *testing.T) {
		p := newPlug(t, Options{Protect: method})
		clearPlug(t, p)
		clearPlug(t, p)
		if got := kernelState(t); got != s.before {
			t.Errorf("after clear:\n%s\nbefore setup:\n%s", got, s.before)
		}
		if method == Qdisc {
			if err := p.Check(t.Context()); !errors.Is(err, ErrNotSetUp) {
				t.Errorf("Check after clear: %v, want ErrNotSetUp", err)
			}
			if err := p.Hold(t.Context()); err == nil || !strings.Contains(err.Error(), "not set up") {
				t.Errorf("Hold after clear: %v, want that it is not set up", err)
			}
		}
	})
}

func newPlug(t *testing.T, o Options) *Plug {
	t.Helper()
	o.GuardCommand = guardCommand
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	for range 2 { // twice is once
		if err := p.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Check(t.Context()); err != nil {
		t.Fatalf("check after setup: %v", err)
	}
	return p
}

func hold(t *testing.T, p *Plug) {
	t.Helper()
	if err := p.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func release(t *testing.T, p *Plug) {
	t.Helper()
	if err := p.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func clearPlug(t *testing.T, p *Plug) {
	t.Helper()
	if err := p.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, p *Plug) Status {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// startHolder runs a process that holds for a minute.
func startHolder(t *testing.T, method Method) (holder, guard int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "plug-holder", string(method))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the holder did not hold: %v", err)
	}
	guard, err = strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "guard")))
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, guard
}

// A server accepts on every address and says nothing.
type server struct {
	port   int
	before string // the kernel's state before any setup
}

func startServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return &server{port: l.Addr().(*net.TCPAddr).Port, before: kernelState(t)}
}

// connect makes one connection and says how long it took.
func (s *server) connect(t *testing.T, host string) time.Duration {
	t.Helper()
	start := time.Now()
	c, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(s.port)), 10*time.Second)
	if err != nil {
		t.Fatalf("connect to %s: %v", host, err)
	}
	c.Close()
	return time.Since(start)
}

type dials struct {
	mu     sync.Mutex
	all    int
	ok     int
	failed []error
}

// dial makes n connections at once, in the background.
func (s *server) dial(host string, n int) *dials {
	d := &dials{all: n}
	for range n {
		go func() {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(s.port)), 10*time.Second)
			if err == nil {
				c.Close()
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if err != nil {
				d.failed = append(d.failed, err)
				return
			}
			d.ok++
		}()
	}
	return d
}

func (d *dials) done() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ok
}

func (d *dials) wait(t *testing.T, within time.Duration) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		d.mu.Lock()
		ok, failed := d.ok, errors.Join(d.failed...)
		d.mu.Unlock()
		if failed != nil {
			t.Fatal(failed)
		}
		if ok == d.all {
			return
		}
		if took := time.Since(start); took > within {
			t.Fatalf("%d of %d connections are through after %s", ok, d.all, took)
		}
	}
}

// retransmitted reads the kernel's count of SYNs that were sent again.
func retransmitted(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(text, []byte("\n"))
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := bytes.Fields(lines[i]), bytes.Fields(lines[i+1])
		for j, name := range names {
			if string(name) == "TCPSynRetrans" {
				n, err := strconv.Atoi(string(values[j]))
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatal("no TCPSynRetrans in /proc/thread-self/net/netstat")
	return 0
}

func addLoopbackAddress(t *testing.T, addr string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(addr + "/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, a); err != nil && !errors.Is(err, syscall.EEXIST) {
		t.Fatal(err)
	}
}

// kernelState prints all that a plug could change, as the kernel's own tools
// show it.
func kernelState(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, c := range []string{"ip -o link", "tc qdisc", "nft list ruleset"} {
		f := strings.Fields(c)
		out, err := exec.Command(paastatest.Need(t, f[0]), f[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
		fmt.Fprintf(&b, "# %s\n%s", c, out)
	}
	return b.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
