// Package zktest runs Debian's ZooKeeper for tests, on loopback ports and in
// directories of its own, and lets tests kill, freeze and restart it.
package zktest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

const jar = "/usr/share/java/zookeeper.jar"

// upWithin bounds how long a server may take to answer; a JVM on a busy machine
// takes a while.
const upWithin = 60 * time.Second

// A Server is one ZooKeeper process. Sessions may be as short as 400 ms.
type Server struct {
	t    testing.TB
	dir  string
	addr string
	log  string

	pid   int
	guard *exec.Cmd
	stdin io.WriteCloser
}

// Start starts a standalone server on a free port of 127.0.0.1 and returns once
// it serves. It is killed, and its data removed, when the test ends. Settings are
// further lines for its zoo.cfg, which win over ours.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := newServer(t, freePorts(t, 1)[0])
	s.config(settings, 0)
	s.Restart()
	return s
}

// StartEnsemble starts three servers that form an ensemble and returns once all
// of them serve. Settings are as with Start.
func StartEnsemble(t testing.TB, settings ...string) []*Server {
	t.Helper()
	ports := freePorts(t, 9)
	lines := slices.Clone(settings)
	for n := range 3 {
		lines = append(lines, fmt.Sprintf("server.%d=127.0.0.1:%d:%d", n+1, ports[3+2*n], ports[4+2*n]))
	}
	var servers []*Server
	for n := range 3 {
		s := newServer(t, ports[n])
		s.config(lines, n+1)
		s.launch()
		servers = append(servers, s)
	}
	for _, s := range servers {
		s.wait()
	}
	return servers
}

// Addrs joins the addresses of an ensemble for zk.Options.
func Addrs(servers []*Server) string {
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr())
	}
	return strings.Join(addrs, ",")
}

// Addr is "127.0.0.1:port", the same after a Restart.
func (s *Server) Addr() string { return s.addr }

// Stop kills the server with SIGKILL. Its data stays for Restart.
func (s *Server) Stop() {
	if s.guard == nil {
		return
	}
	// The process is the guard's child: signalling it is safe while the guard,
	// which reaps it, has not been told to.
	_ = syscall.Kill(s.pid, syscall.SIGKILL)
	_ = s.stdin.Close()
	_ = s.guard.Wait()
	s.guard = nil
}

// Restart kills the server if it runs, starts it again with the same port and
// data, and waits until it serves.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.launch()
	s.wait()
}

// Wipe kills the server, removes its data, and starts it again.
func (s *Server) Wipe() {
	s.t.Helper()
	s.Stop()
	s.removeData()
	s.Restart()
}

// Backup kills the server, copies its data and starts it again. The func that it
// returns does the same the other way round: what came since is lost.
func (s *Server) Backup() (restore func()) {
	s.t.Helper()
	s.Stop()
	saved := filepath.Join(s.t.TempDir(), "backup")
	if err := os.CopyFS(saved, os.DirFS(s.version())); err != nil {
		s.t.Fatal(err)
	}
	s.Restart()
	return func() {
		s.t.Helper()
		s.Stop()
		s.removeData()
		if err := os.CopyFS(s.version(), os.DirFS(saved)); err != nil {
			s.t.Fatal(err)
		}
		s.Restart()
	}
}

// version is where the data are: snapshots and transactions, and not the id of a
// member.
func (s *Server) version() string { return filepath.Join(s.dir, "data", "version-2") }

func (s *Server) removeData() {
	s.t.Helper()
	if err := os.RemoveAll(s.version()); err != nil {
		s.t.Fatal(err)
	}
}

// Pause freezes the server: connections stay open and nothing answers. It
// returns once the server has stopped.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(upWithin); !s.stopped(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("ZooKeeper (pid %d) does not stop", s.pid)
		}
	}
}

// stopped tells whether every thread of the server is stopped.
func (s *Server) stopped() bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.pid))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("ZooKeeper (pid %d) is gone: %v", s.pid, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		// "pid (name) state …", and a name may hold anything.
		state := string(text[strings.LastIndexByte(string(text), ')')+1:])
		if !strings.HasPrefix(strings.TrimSpace(state), "T") {
			return false
		}
	}
	return true
}

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.pid, sig); err != nil {
		s.t.Fatalf("%v to ZooKeeper (pid %d): %v", sig, s.pid, err)
	}
}

// Command sends a four-letter word, e.g. "srvr", and returns the answer.
func (s *Server) Command(word string) (string, error) {
	c, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func newServer(t testing.TB, port int) *Server {
	t.Helper()
	paastatest.Need(t, "java")
	if _, err := os.Stat(jar); err != nil {
		paastatest.Missing(t, "zookeeper is not installed (make deps installs it): %v", err)
	}
	dir, err := os.MkdirTemp("", "zktest")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), log: filepath.Join(dir, "log")}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			if text, err := os.ReadFile(s.log); err == nil {
				t.Logf("the end of ZooKeeper's log (%s):\n%s", s.addr, text[max(0, len(text)-2000):])
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// config writes zoo.cfg; an id is a member's of an ensemble, whose members are
// among the lines.
func (s *Server) config(lines []string, id int) {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	text := fmt.Sprintf(`tickTime=500
initLimit=20
syncLimit=10
minSessionTimeout=400
maxSessionTimeout=60000
maxClientCnxns=0
dataDir=%s
clientPort=%s
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=*
%s
`, filepath.Join(s.dir, "data"), port, strings.Join(lines, "\n"))
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if id > 0 {
		if err := os.WriteFile(filepath.Join(s.dir, "data", "myid"), []byte(strconv.Itoa(id)), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "zoo.cfg"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// launch starts the JVM below a shell that kills it when our end of the
// shell's stdin closes: a test binary that dies leaves no ZooKeeper behind.
func (s *Server) launch() {
	s.t.Helper()
	s.guard = exec.Command("sh", "-c", `"$@" >>"$LOG" 2>&1 & echo $!; read _; kill -9 $! 2>/dev/null; wait`, "zktest",
		"java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
		"-cp", jar+":/usr/share/java/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
	s.guard.Env = append(os.Environ(), "LOG="+s.log)
	// A Ctrl-C at the terminal must not reach it before the test's clean-up.
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := s.guard.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := s.guard.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.guard.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.stdin = stdin
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.t.Fatalf("start ZooKeeper: %v", err)
	}
	if s.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		s.t.Fatal(err)
	}
}

// wait returns once the server serves, which in an ensemble needs a quorum.
func (s *Server) wait() {
	s.t.Helper()
	var answer string
	var err error
	for deadline := time.Now().Add(upWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if answer, err = s.Command("srvr"); err == nil && strings.Contains(answer, "Mode:") {
			return
		}
	}
	s.t.Fatalf("ZooKeeper at %s does not serve after %v: %q, %v", s.addr, upWithin, answer, err)
}

// freePorts returns ports that were free a moment ago, each another. They are
// not among those that the kernel gives to outgoing connections: one of these
// would keep a server that was stopped from coming back.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	const first, last = 23000, 31000
	var ports []int
	for range 1000 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.N(last-first))))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close() // all stay open until all are chosen
		if ports = append(ports, l.Addr().(*net.TCPAddr).Port); len(ports) == n {
			return ports
		}
	}
	t.Fatalf("%d of %d ports are free between %d and %d", len(ports), n, first, last)
	return nil
}
