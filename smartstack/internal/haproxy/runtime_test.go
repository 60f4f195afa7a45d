package haproxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A socket whose queue is full makes a command wait, not fail.
func TestRuntimeWaitsForItsTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	var waiting []net.Conn
	defer func() {
		for _, c := range waiting {
			c.Close()
		}
	}()
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
	}
	dialled := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c, err := (&Runtime{Socket: path}).dial(ctx)
		if err == nil {
			c.Close()
		}
		dialled <- err
	}()
	select {
	case err := <-dialled:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if accepted, _, err := syscall.Accept(fd); err == nil {
		defer syscall.Close(accepted)
	}
	if err := <-dialled; err != nil {
		t.Error(err)
	}
}

// A client keeps its connection, and its commands reach the process that they are
// for, or none.
func TestRuntimeKeepsItsConnection(t *testing.T) {
	p := Process{Binary: paastatest.Need(t, "haproxy"), Dir: t.TempDir()}
	defer func() {
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	service := plain("svc.a", uint16(port), server(1, 10))
	service.Bind = service.Bind[:1]
	err = p.WriteBy(func(w *bufio.Writer) {
		Write(w, Global{Version: version(t, p), Socket: p.Socket(), DelayScript: "testdata/delay.lua", MaxConn: 100, HardStop: time.Minute}, "", []*Section{NewSection(service)})
	})
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Start(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Runtime()
	s.Idle = 200 * time.Millisecond
	defer s.CloseIdle()
	connection := func() *conn {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.kept
	}
	weigh := func(pid int) error {
		t.Helper()
		name := "svc.a/" + service.Backends[0].Servers[0].Name
		commands := []string{"set server " + name + " weight 7", "get weight " + name, "no such command"}
		for range batch {
			commands = append(commands, "get weight "+name)
		}
		answers, err := s.Do(t.Context(), pid, commands...)
		if err != nil {
			return err
		}
		if len(answers) != len(commands) || answers[0] != "" || !strings.HasPrefix(answers[2], "Unknown command") {
			t.Errorf("%d answers to %d commands: %q", len(answers), len(commands), answers)
		}
		if i := slices.IndexFunc(slices.Delete(answers, 2, 3)[1:], func(a string) bool { return strings.TrimSpace(a) != "7 (initial 10)" }); i >= 0 {
			t.Errorf("answer %d: %q", i, answers[i])
		}
		return nil
	}
	eventually := func(pid int) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			err := weigh(pid)
			if err == nil {
				return
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatal(err)
			}
		}
	}
	eventually(first)
	kept := connection()
	if err := weigh(first); err != nil || kept == nil || connection() != kept {
		t.Errorf("the second time: %v, on another connection: %v", err, connection() != kept)
	}

	second, err := p.Start(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	eventually(second) // and not the one that the kept connection leads to
	if err := weigh(first); !errors.Is(err, ErrOtherProcess) {
		t.Errorf("for a process that serves no more: %v", err)
	}
	eventually(second)
	kept = connection()
	kept.made = time.Now().Add(-time.Minute)
	if err := weigh(second); err != nil || connection() == kept {
		t.Errorf("after a minute: %v, on the same connection: %v", err, connection() == kept)
	}
	for begin := time.Now(); connection() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("kept though nobody uses it")
		}
	}
	eventually(second)
	if s.CloseIdle(); connection() != nil {
		t.Error("kept though it was closed")
	}

	eventually(second)
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-Exited(t.Context(), second)
	if err := weigh(second); err == nil {
		t.Error("a process that is gone answered")
	}
	third, err := p.Start(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(third)
}
