package accesslog

import (
	"context"
	"errors"
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

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// senderEnv makes the test binary a process that only sends: what the
// benchmarks measure is then all that receiving costs.
const senderEnv = "PAASTA_TEST_SENDER"

func TestMain(m *testing.M) {
	if what := os.Getenv(senderEnv); what != "" {
		if err := send(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestRaiseQueue(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "max_dgram_qlen")
	for before, want := range map[string]int{"10\n": queue, "8192\n": 8192} {
		if err := os.WriteFile(file, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
		if n, err := raiseQueue(file); n != want || err != nil {
			t.Errorf("from %q: %d, %v, want %d", before, n, err, want)
		}
		if text, _ := os.ReadFile(file); strings.TrimSpace(string(text)) != strconv.Itoa(want) {
			t.Errorf("from %q: the file says %q", before, text)
		}
	}
	if n, err := raiseQueue(filepath.Join(t.TempDir(), "none")); n != 10 || err == nil {
		t.Errorf("without the file: %d, %v", n, err)
	}
	if err := os.WriteFile(file, []byte("many"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := raiseQueue(file); err == nil {
		t.Error("many: no error")
	}
}

// inNamespace moves the goroutine, for the rest of its life, into a network
// namespace of its own: the length of queues is set for a whole one.
func inNamespace(t testing.TB) {
	t.Helper()
	paastatest.NeedRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// listen makes a socket and reads it until the returned function is called.
func listen(t testing.TB, c *Counter) (s *Socket, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "log") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log.sock")
	for range 2 { // one that is there already is replaced
		if s, err = Listen(path); err != nil {
			t.Fatal(err)
		}
	}
	if s.Queue != queue || s.QueueErr != nil {
		t.Errorf("queue %d, %v", s.Queue, s.QueueErr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Run(ctx, c.Take); err != nil {
			t.Error(err)
		}
	})
	return s, func() { cancel(); wait.Wait(); os.RemoveAll(dir) }
}

func TestSocket(t *testing.T) {
	inNamespace(t)
	c := &Counter{Lookup: anything}
	s, stop := listen(t, c)
	defer stop()
	conn, err := net.Dial("unixgram", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// More than the kernel's own limit in one burst; the rest waits.
	lines := someLines(100)
	for _, line := range lines {
		if _, err := conn.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write([]byte(strings.Repeat("x", 5000))); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		return c.lines.Load() == int64(len(lines)) && c.foreign.Load() == 1 && s.Received() == int64(len(lines)+1)
	})
}

func until(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 10s")
		}
	}
}

// perSecond is what the benchmarks send.
const perSecond = 10_000

// BenchmarkLog receives, parses and counts 10,000 lines a second that another
// process sends in bursts of ten, as HAProxy does when many requests end at
// once. It reports the share of one core that this takes, and how many lines
// were lost: on a machine where others want the cores too, some are.
func BenchmarkLog(b *testing.B) {
	inNamespace(b)
	c := &Counter{Lookup: anything}
	s, stop := listen(b, c)
	defer stop()
	measured(b, c, 2*perSecond, "lines "+s.path)
}

// BenchmarkLogOfHAProxy is the same with a real HAProxy that answers 10,000
// requests a second.
func BenchmarkLogOfHAProxy(b *testing.B) {
	binary := paastatest.Need(b, "haproxy")
	inNamespace(b)
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		b.Fatalf("set lo up: %v\n%s", err, out)
	}
	c := &Counter{Lookup: anything}
	s, stop := listen(b, c)
	defer stop()
	dir := filepath.Dir(s.path)
	config := filepath.Join(dir, "haproxy.cfg")
	text := fmt.Sprintf(`global
	stats socket %s/stats.sock
	log %s len %d format raw local0 info
defaults
	mode http
	timeout client 5s
	timeout server 5s
	timeout connect 5s
	log global
frontend web.main
	bind 127.0.0.1:20001
	log-format %s
	http-request set-var(txn.paasta_at) date(0,us)
	http-request set-var(txn.caller) str(shop.main)
	http-request return status 200
`, dir, s.path, MaxLength, FormatHTTP)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(binary, "-db", "-f", config) // inherits the namespace of this thread
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	until(b, func() bool { conn, err := net.Dial("tcp", "127.0.0.1:20001"); return err == nil && conn.Close() == nil })
	until(b, func() bool { return c.lines.Load() > 0 }) // of that connection
	measured(b, c, perSecond, "http 127.0.0.1:20001")
	conn, err := net.Dial("unix", filepath.Join(dir, "stats.sock"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "show info\n")
	info, err := io.ReadAll(conn)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(info), "\nDroppedLogs: ")
	dropped, _, _ := strings.Cut(rest, "\n")
	if dropped != "0" {
		b.Errorf("HAProxy dropped %q lines", dropped)
	}
}

// measured runs a sender of total lines for each of b's rounds.
func measured(b *testing.B, c *Counter, total int, what string) {
	var used, took time.Duration
	var lost int64
	for b.Loop() {
		before := c.lines.Load()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), senderEnv+"="+what+" "+strconv.Itoa(total))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		begin, cpu := time.Now(), ownCPU(b)
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		sent, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(time.Second); c.lines.Load() < before+sent && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		took += time.Since(begin)
		used += ownCPU(b) - cpu
		lost += int64(total) - (c.lines.Load() - before)
	}
	lines := float64(b.N) * float64(total)
	b.ReportMetric(lines/took.Seconds(), "lines/s")
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(float64(used.Microseconds())/lines, "µs/line")
	b.ReportMetric(float64(lost), "lost")
}

func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// send sends "lines PATH N" or makes requests "http ADDR N", perSecond of them,
// and prints how many.
func send(what string) error {
	f := strings.Fields(what)
	if len(f) != 3 {
		return errors.New("want KIND WHERE N")
	}
	total, err := strconv.Atoi(f[2])
	if err != nil {
		return err
	}
	var sent atomic.Int64
	begin := time.Now()
	due := func() int { return min(int(time.Since(begin).Seconds()*perSecond), total) }
	if f[0] == "lines" {
		conn, err := net.Dial("unixgram", f[1])
		if err != nil {
			return err
		}
		raw, err := conn.(*net.UnixConn).SyscallConn()
		if err != nil {
			return err
		}
		lines := someLines(2000)
		for n := 0; n < total; time.Sleep(time.Millisecond) {
			// One that was held up itself does not make up for it at once.
			for upTo := min(due(), n+2*perSecond/1000); n < upTo; n++ {
				err := raw.Write(func(fd uintptr) bool { // HAProxy does not wait either
					if syscall.Sendto(int(fd), lines[n%len(lines)], syscall.MSG_DONTWAIT, nil) == nil {
						sent.Add(1)
					}
					return true
				})
				if err != nil {
					return err
				}
			}
		}
	} else {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for n := next.Add(1); n <= int64(total); n = next.Add(1) {
					for int(n) > due() {
						time.Sleep(time.Millisecond)
					}
					resp, err := client.Get("http://" + f[1] + "/users/" + strconv.FormatInt(n, 10))
					if err == nil && resp.Body.Close() == nil {
						sent.Add(1)
					}
				}
			})
		}
		wg.Wait()
	}
	fmt.Println(sent.Load())
	return nil
}
