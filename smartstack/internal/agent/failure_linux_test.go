package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// accepted splits failures into those of connections that a process had accepted
// before it was killed, which end with it, and all others.
func accepted(failures []string) (had int, others []string) {
	for _, f := range failures {
		// "Closed idle connection" is the HTTP client's word for one that was accepted
		// and ended before the request was sent.
		if strings.Contains(f, "EOF") || strings.Contains(f, "connection reset by peer") || strings.Contains(f, "server closed idle connection") {
			had++
			continue
		}
		others = append(others, f)
	}
	return had, others
}

// rounds is how often something is killed: as often as PAASTA_KILLS says.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("PAASTA_KILLS")); err == nil {
		return n
	}
	if testing.Short() {
		return 4
	}
	return 10
}

// kill -9 of the HAProxy that serves: what comes while there is none waits in
// its listeners, which the agent holds, and is answered by the next.
func TestHAProxyIsKilledUnderLoad(t *testing.T) {
	const clients = 4
	reg := newMemory()
	h := newHost(t, reg)
	h.options.Deaths = 1000 // at once after each other are held against a HAProxy; these are the test's
	h.service("web.main", nil)
	h.service("empty.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	stop := loadMixed(h, "web.main", clients)
	for range rounds() {
		pid := h.agent.Status().HAProxy.PID
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if now := h.agent.Status().HAProxy.PID; now == pid || now == 0 {
				return fmt.Errorf("pid %d", now)
			}
			return nil
		})
		h.up("web.main", a.port, b.port)
	}
	sent, failures := stop()
	had, others := accepted(failures)
	t.Logf("%d requests; %d were in a HAProxy that was killed, %d more failed; %d kills", sent, had, len(others), rounds())
	if len(others) > 0 || had > clients*rounds() {
		t.Errorf("lost: %s", strings.Join(others[:min(5, len(others))], "\n"))
	}
}

// kill -9 of the new HAProxy at any moment of a reload, before or after it has
// told the old one to finish.
func TestNewHAProxyIsKilledInReload(t *testing.T) {
	const clients = 4
	reg := newMemory()
	h := newHost(t, reg)
	h.options.MinInterval, h.options.Deaths = time.Millisecond, 1000
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	stop := loadMixed(h, "web.main", clients)
	p := h.options.Process
	killed := 0
	for i := range rounds() {
		old := p.All()
		h.service("web.main", timeouts(time.Duration(6000+i)*time.Millisecond))
		var fresh []int
		eventually(t, func() error {
			fresh = slices.DeleteFunc(p.All(), func(pid int) bool { return slices.Contains(old, pid) })
			if len(fresh) == 0 {
				return fmt.Errorf("no new process")
			}
			return nil
		})
		if pidFile := filepath.Join(p.Dir, "haproxy.pid"); i%2 == 0 {
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		} else {
			// The last moment: the old one has been told, and this was written.
			eventually(t, func() error {
				text, err := os.ReadFile(pidFile)
				if err != nil || slices.Contains(old, atoi(text)) {
					return errors.Join(err, fmt.Errorf("%s: %q", pidFile, text))
				}
				return nil
			})
		}
		for _, pid := range p.All() {
			if !slices.Contains(old, pid) && syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
		want := fmt.Sprintf("timeout server %dms", 6000+i)
		eventually(t, func() error {
			s := h.agent.Status().HAProxy
			if s.PID == 0 || len(s.ReloadWanted) > 0 || !strings.Contains(h.config(), want) {
				return fmt.Errorf("%+v", s)
			}
			if in, ok, err := p.Running(t.Context()); !ok || in.PID != s.PID {
				return errors.Join(err, fmt.Errorf("%+v", in))
			}
			return nil
		})
	}
	h.up("web.main", a.port, b.port)
	sent, failures := stop()
	had, others := accepted(failures)
	t.Logf("%d requests; %d were in a HAProxy that was killed, %d more failed; %d processes killed", sent, had, len(others), killed)
	if len(others) > 0 || had > clients*killed {
		t.Errorf("lost: %s", strings.Join(others[:min(5, len(others))], "\n"))
	}
}

// An agent that is told to end in the middle of a reload sees it through: the new
// HAProxy may have told the old one to finish already.
func TestAgentIsStoppedInReload(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.options.MinInterval = time.Millisecond
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	stop := loadMixed(h, "web.main", 4)
	p := h.options.Process
	for i := range rounds() / 2 {
		old := p.All()
		h.service("web.main", timeouts(time.Duration(6000+i)*time.Millisecond))
		eventually(t, func() error {
			if slices.ContainsFunc(p.All(), func(pid int) bool { return !slices.Contains(old, pid) }) {
				return nil
			}
			return errors.New("no new process")
		})
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		h.stop()
		if in, ok, err := p.Running(t.Context()); !ok {
			t.Fatalf("no HAProxy runs after the agent ended: %+v, %v", in, err)
		}
		h.start()
		h.up("web.main", a.port, b.port)
	}
	sent, failures := stop()
	unharmed(t, sent, failures)
}

func atoi(text []byte) int {
	n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0 for what is half written
	return n
}

// An agent that is killed in a reload leaves a HAProxy that starts, and takes over
// from the one that the next agent has adopted. The agent goes over to it, and none
// stays that takes a part of the connections with what it had.
func TestAnotherHAProxyTakesOver(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	stop := loadMixed(h, "web.main", 2)
	p := h.options.Process
	a.slow.Store(3000) // the first HAProxy lives on
	for range 2 {
		if _, err := p.Start(t.Context(), h.agent.Status().HAProxy.PID); err != nil {
			t.Fatal(err)
		}
		reg.put("web.main", a.entry(), b.entry())
		h.up("web.main", a.port, b.port)
		reg.put("web.main", a.entry(), b.entry(), c.entry())
		h.up("web.main", a.port, b.port, c.port)
	}
	a.slow.Store(0)
	// The next agent starts while both have the socket.
	for range 5 {
		h.stop()
		in, _, err := p.Running(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := make(chan error)
		go func() { _, err := p.Start(t.Context(), in.PID); began <- err }()
		h.start()
		if err := <-began; err != nil {
			t.Fatal(err)
		}
		reg.put("web.main", a.entry(), c.entry())
		h.up("web.main", a.port, c.port)
		reg.put("web.main", a.entry(), b.entry(), c.entry())
		h.up("web.main", a.port, b.port, c.port)
	}
	h.service("web.main", timeouts(6*time.Second))
	eventually(t, func() error {
		if s := h.agent.Status().HAProxy; len(s.Processes) != 1 || s.Processes[0] != s.PID {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	sent, failures := stop()
	unharmed(t, sent, failures)
}

// A HAProxy that dies over and over is not started over and over.
func TestHAProxyThatCannotLive(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	deadline := time.Now().Add(2 * time.Second)
	kills := 0
	for time.Now().Before(deadline) {
		for _, pid := range (haproxy.Process{Dir: h.options.Process.Dir}).All() {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				kills++
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if kills > 20 {
		t.Errorf("started it %d times in 2s", kills)
	}
	t.Logf("%d processes killed", kills)
	h.up("web.main", a.port)
}

// Who asks how the agent is gets an answer while HAProxy is frozen, and not each
// of them only after a wait.
func TestStatusOfAFrozenHAProxy(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	pid := h.agent.Status().HAProxy.PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // it may be gone
	eventually(t, func() error {                              // each of its threads
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				return err
			}
			if !strings.Contains(string(text), ") T ") {
				return fmt.Errorf("%s: %s", task, text)
			}
		}
		return err
	})
	eventually(t, func() error { // until what it said last is too old
		if begin := time.Now(); h.agent.Status().HAProxy.PID == pid && time.Since(begin) < scanTimeout {
			return errors.New("it was not asked")
		}
		return nil
	})
	begin := time.Now()
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			if s := h.agent.Status(); s.HAProxy.PID != pid || len(s.Registrations) != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
	wait.Wait()
	if took := time.Since(begin); took > 4*scanTimeout {
		t.Errorf("ten answers took %s", took)
	}
}
