//go:build linux

package playground

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

func TestNameFitsALink(t *testing.T) {
	t.Parallel()
	p := &Playground{Name: nameOf("/some/very/long/directory/name/that/goes/on")}
	for _, link := range []string{p.hostLink(), p.insideLink()} {
		if len(link) > unix.IFNAMSIZ-1 {
			t.Errorf("%s is longer than the kernel allows", link)
		}
	}
	if nameOf("/a") == nameOf("/b") {
		t.Error("two directories have one name")
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, ErrNone) {
		t.Errorf("an empty directory: %v, want ErrNone", err)
	}
	p := &Playground{Dir: dir, Name: nameOf(dir), Address: "127.0.0.9", Agents: 4}
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	got, err := Open(dir)
	if err != nil || *got != *p {
		t.Errorf("Open = %+v, %v, want %+v", got, err, p)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(moved); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("a moved playground: %v, want an error about that", err)
	}
}

// A directory with anything else in it never becomes a playground, and is never
// removed.
func TestLeavesForeignDirectoriesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := mayBecomePlayground(dir); err == nil {
		t.Error("a directory with a file may become a playground")
	}
	if err := mayBecomePlayground(filepath.Join(dir, "new")); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := mayBecomePlayground(t.TempDir()); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if gone, err := Down(t.Context(), dir); gone || !errors.Is(err, ErrNone) {
		t.Errorf("Down = %t, %v, want ErrNone", gone, err)
	}
	if gone, err := Down(t.Context(), filepath.Join(dir, "nowhere")); gone || err != nil {
		t.Errorf("Down of a directory that is not there = %t, %v", gone, err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// Nor does one that another account may change: what is in it runs as root.
func TestLeavesOthersDirectoriesAlone(t *testing.T) {
	t.Parallel()
	paastatest.NeedRoot(t)
	for want, change := range map[string]func(dir string) error{
		"belongs to the user with the id 65534": func(dir string) error { return os.Chown(dir, 65534, 0) },
		"others may write to":                   func(dir string) error { return os.Chmod(dir, 0o775) },
	} {
		dir := filepath.Join(t.TempDir(), "playground")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := mayBecomePlayground(dir); err != nil {
			t.Errorf("an empty directory of ours: %v", err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if err := mayBecomePlayground(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := os.WriteFile(filepath.Join(dir, "playground.json"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := mayBecomePlayground(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("as a playground: %v, want %q", err, want)
		}
	}
}

func TestPortOwner(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	by, taken, err := portTaken("127.0.0.1", port)
	if err != nil || !taken || by.PID != os.Getpid() || !strings.Contains(by.Command, filepath.Base(os.Args[0])) {
		t.Errorf("portTaken = %+v, %t, %v, want this process", by, taken, err)
	}
	l.Close()
	if _, taken, err := portTaken("127.0.0.1", port); taken || err != nil {
		t.Errorf("a port that was closed: %t, %v", taken, err)
	}
	if _, err := freeAddress("/pg", "127.0.0.1", []*Playground{{Address: "127.0.0.1"}}); err == nil {
		t.Error("an address that another playground has is given away")
	}
}

// A port that is taken is named with its owner, and what to do with the
// directory that was asked for.
func TestTakenPort(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	const address = "127.0.0.2"
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, PortRegistry))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = freeAddress("/pg", address, nil)
	if hint, ok := errors.AsType[command.HintedError](err); !ok || !strings.Contains(hint.Hint, "--dir /pg --address") {
		t.Errorf("got %v (%+v)", err, hint)
	} else if want := fmt.Sprintf("port %d of %s is taken by process %d (", PortRegistry, address, os.Getpid()); !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLockIsForOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lock(dir)
	if _, ok := errors.AsType[command.HintedError](err); !ok || !strings.Contains(err.Error(), "another command is at work on the playground in "+dir) {
		t.Errorf("a second command: %v", err)
	}
	unlock()
	if unlock, err = lock(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestListener(t *testing.T) {
	t.Parallel()
	const rest = " 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
	for line, want := range map[string]bool{
		"0: 0100007F:13BE 00000000:0000 0A" + rest:                                                 true,  // 127.0.0.1
		"0: 00000000:13BE 00000000:0000 0A" + rest:                                                 true,  // any
		"0: 00000000000000000000000000000000:13BE 00000000000000000000000000000000:0000 0A" + rest: true,  // any, IPv6
		"0: 0000000000000000FFFF00000100007F:13BE 00000000000000000000000000000000:0000 0A" + rest: true,  // ::ffff:127.0.0.1
		"0: 0200007F:13BE 00000000:0000 0A" + rest:                                                 false, // 127.0.0.2
		"0: 0100007F:13BF 00000000:0000 0A" + rest:                                                 false, // another port
		"0: 0100007F:13BE 00000000:0000 01" + rest:                                                 false, // a connection
		"0: 01000:13BE": false,
		"":              false,
	} {
		inode, ok := listener(line, "127.0.0.1", 5054)
		if ok != want || (ok && inode != "4711") {
			t.Errorf("listener(%q) = %q, %t, want %t", line, inode, ok, want)
		}
	}
}

func FuzzListener(f *testing.F) {
	f.Add("0: 0100007F:13BE 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1")
	f.Fuzz(func(_ *testing.T, line string) { listener(line, "127.0.0.1", 5054) })
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	prefix := netip.MustParsePrefix
	used := []netip.Prefix{prefix("0.0.0.0/0"), prefix("10.78.0.0/24"), prefix("10.78.7.1/32")}
	for candidate, want := range map[string]bool{"10.78.0.0/30": true, "10.78.1.0/30": false, "10.78.7.0/30": true} {
		if got := overlaps(prefix(candidate), used); got != want {
			t.Errorf("overlaps(%s) = %t, want %t", candidate, got, want)
		}
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p, err := running(cmd.Process.Pid)
	if err != nil || !p.alive() {
		t.Fatalf("running = %+v, %v", p, err)
	}
	another := process{PID: p.PID, Start: p.Start + 1}
	if another.alive() {
		t.Error("a process with another start counts as the same")
	}
	if err := another.signal(unix.SIGKILL); err != nil || !p.alive() {
		t.Errorf("a signal to an earlier process with that pid: %v, alive %t", err, p.alive())
	}
	bounded, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.wait(bounded); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for what goes on: %v", err)
	}
	if err := p.stop(t.Context(), 10*time.Second); err != nil || p.alive() {
		t.Errorf("stop: %v, alive %t", err, p.alive())
	}
	<-ended
}

func TestNextDelay(t *testing.T) {
	t.Parallel()
	var delay time.Duration
	for _, want := range []time.Duration{200, 400, 800, 1600, 3200, 6400, 10000, 10000} {
		if delay = nextDelay(delay, time.Second); delay != want*time.Millisecond {
			t.Errorf("delay = %s, want %s", delay, want*time.Millisecond)
		}
	}
	if got := nextDelay(delay, time.Hour); got != firstDelay {
		t.Errorf("after a long run: %s, want %s", got, firstDelay)
	}
}

// A shell reads from DIR/env what the daemons get.
func TestEnvFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "it's a dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &Playground{Dir: dir, Name: nameOf(dir), Address: "127.0.0.1", Binary: "/opt/paasta/bin/paasta"}
	file := filepath.Join(dir, "env")
	if err := os.WriteFile(file, []byte(p.envFile(secrets{marathon: "token"})), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. "$1" && env`, "sh", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := "\n" + string(out)
	for _, want := range append(p.Environment(), "PATH=/opt/paasta/bin:") {
		if !strings.Contains(lines, "\n"+want) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
}

func TestUnescapeMount(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{`/a\040b`: "/a b", "/a": "/a", `/a\`: `/a\`, `/a\999`: `/a\999`} {
		if got := unescapeMount(in); got != want {
			t.Errorf("unescapeMount(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPublished(t *testing.T) {
	t.Parallel()
	got := published(`*nat
:DOCKER - [0:0]
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER -d 10.77.1.1/32 ! -i docker0 -p tcp -m tcp --dport 31003 -j DNAT --to-destination 172.17.0.5:8888
COMMIT
`)
	want := "-A PAASTA-KEEP -d 10.77.1.1/32 ! -i docker0 -p tcp -m tcp --dport 31003 -j DNAT --to-destination 172.17.0.5:8888"
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Only sockets of our own user are ours, not those of others, nor one that was
// closed, which the kernel counts as root's.
func TestIsOurs(t *testing.T) {
	t.Parallel()
	paastatest.NeedRoot(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, tt := range map[string]struct {
		uid    int
		to     string
		closed bool
		want   bool
	}{
		"ours":                 {0, "", false, true},
		"ours, of both kinds":  {0, "::ffff:127.0.0.1", false, true},
		"another's":            {65534, "", false, false},
		"another's, of both":   {65534, "::ffff:127.0.0.1", false, false},
		"another's and closed": {65534, "", true, false},
		"ours and closed":      {0, "", true, false},
	} {
		runtime.LockOSThread() // to which the user belongs that the kernel gives the socket
		if err := unix.Setfsuid(tt.uid); err != nil {
			t.Fatal(err)
		}
		family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}})
		if tt.to != "" {
			family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: l.Addr().(*net.TCPAddr).Port, Addr: netip.MustParseAddr(tt.to).As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err := errors.Join(err, unix.Setfsuid(0)); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
		if err := unix.Connect(fd, address); err != nil {
			t.Fatal(err)
		}
		if tt.closed {
			unix.Close(fd)
		} else {
			defer unix.Close(fd)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := isOurs(conn.(*net.TCPConn)); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// What a client sees through a forward is what it would see without it: bytes
// both ways, a closed half, a refused connection.
func TestForwarder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("entering even the own namespace needs root: only the joining of connections is tested here")
		return
	}
	home, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 100)
				n, _ := conn.Read(buf)
				fmt.Fprintf(conn, "you said %s", buf[:n])
			}()
		}
	}()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := &Playground{Dir: dir, Address: "127.0.0.1"}
	f := &forwarder{p: p, n: &Namespace{home, home}, log: slog.New(slog.DiscardHandler), open: map[int]*opened{}}
	port := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}
	works, dead := port(), port()
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		f.set(ctx, nil)
		f.conns.Wait()
	}()
	f.set(ctx, []Forward{
		{Port: works, What: "echo", Target: echo.Addr().String()},
		{Port: dead, What: "nobody", Target: "127.0.0.1:1"},
		{Port: echo.Addr().(*net.TCPAddr).Port, What: "taken", Target: "127.0.0.1:1"},
	})

	ask := func(port int) (string, error) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte("hi")); err != nil {
			return "", err
		}
		var answer []byte
		buf := make([]byte, 100)
		for {
			n, err := conn.Read(buf)
			answer = append(answer, buf[:n]...)
			if err != nil {
				if err.Error() == "EOF" {
					err = nil
				}
				return string(answer), err
			}
		}
	}
	if answer, err := ask(works); answer != "you said hi" || err != nil {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	if answer, err := ask(dead); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("to where nobody listens: %q, %v, want a reset", answer, err)
	}
	var open []Forward
	text, err := os.ReadFile(p.forwardsFile())
	if err != nil || json.Unmarshal(text, &open) != nil || len(open) != 3 {
		t.Fatalf("forwards.json: %s, %v", text, err)
	}
	if open[0].Error != "" || !strings.Contains(open[2].Error, fmt.Sprintf("process %d ", os.Getpid())) {
		t.Errorf("forwards.json: %+v, want the third to name this process", open)
	}
	f.set(ctx, []Forward{{Port: dead, What: "now echo", Target: echo.Addr().String()}})
	if _, err := ask(works); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a forward that is gone: %v, want a refusal", err)
	}
	if answer, err := ask(dead); answer != "you said hi" || err != nil {
		t.Errorf("a forward that leads elsewhere now: %q, %v", answer, err)
	}
}
