package deployd_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
)

// A host that still runs Airbnb's synapse, which ignores weights and says nothing
// of itself, loses no request in a bounce.
func TestSynapseLosesNothing(t *testing.T) {
	t.Parallel()
	s := &synapse{t: t, haproxy: paastatest.Need(t, "haproxy"), dir: t.TempDir()}
	w := newWorld(t)
	w.marathon.Hosts = []string{"127.0.0.1"}
	w.config.DrainGrace = 2 * time.Second
	s.conn = w.dial()
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	tasks := &tasks{w: w, running: map[string]*http.Server{}}
	parts.Go(func() { tasks.follow(ctx) })
	parts.Go(func() { s.run(ctx) })
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.until("synapse knows them", func() string { return s.missing(3) })

	var sent, failed atomic.Int64
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	for range 4 {
		load.Go(func() {
			for loading.Err() == nil {
				sent.Add(1)
				response, err := client.Get("http://" + s.frontend())
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					response.Body.Close()
					if response.StatusCode != http.StatusOK {
						err = errors.New(response.Status)
					}
				}
				if err != nil && failed.Add(1) <= 5 {
					t.Errorf("a request failed: %v", err)
				}
			}
		})
	}
	for _, sha := range []string{sha2, sha1} {
		before := sent.Load()
		w.deploy(sha)
		w.untilRunning(sha, 3)
		w.until("synapse knows only the new ones", func() string { return s.missing(3) })
		w.until("traffic", func() string {
			if n := sent.Load() - before; n < 100 {
				return fmt.Sprintf("%d requests", n)
			}
			return ""
		})
	}
	stop()
	load.Wait()
	t.Logf("%d of %d requests failed", failed.Load(), sent.Load())
}

// tasks are processes that answer while Marathon lists them, and end at once when
// it does not any more.
type tasks struct {
	w       *world
	running map[string]*http.Server
}

func (s *tasks) follow(ctx context.Context) {
	for ctx.Err() == nil {
		listed := map[string]bool{}
		for _, task := range s.w.marathon.Tasks("") {
			listed[task.ID] = true
			if s.running[task.ID] != nil {
				continue
			}
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", task.Host, task.Port))
			if err != nil {
				s.w.t.Error(err)
				return
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(10 * time.Millisecond) // a request takes a while
				fmt.Fprintln(w, task.ID)
			})}
			s.running[task.ID] = server
			go func() { _ = server.Serve(l) }()
			s.w.marathon.Run(task.ID)
			s.w.marathon.Healthy(task.ID, true)
		}
		for id, server := range s.running {
			if !listed[id] {
				server.Close()
				delete(s.running, id)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, server := range s.running {
		server.Close()
	}
}

// synapse reads a registration by the rules of Airbnb's synapse, as its sources
// have them, and configures a HAProxy as it does: who comes makes a reload, who
// goes is disabled, and changes are seen about once a second.
type synapse struct {
	t       *testing.T
	conn    *zk.Conn
	haproxy string
	dir     string
	port    int
	process *exec.Cmd

	mu      sync.Mutex
	known   map[string]bool // by server, whether it is there
	waiting sync.WaitGroup
}

func (s *synapse) frontend() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// missing says what keeps it from having n servers.
func (s *synapse) missing(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	enabled := 0
	for _, there := range s.known {
		if there {
			enabled++
		}
	}
	if enabled != n {
		return fmt.Sprintf("it has %d of %d servers: %v", enabled, n, s.known)
	}
	return ""
}

func (s *synapse) run(ctx context.Context) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Error(err)
		return
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	for ctx.Err() == nil {
		if servers, err := s.read(ctx); err == nil {
			if err := s.apply(servers); err != nil {
				s.t.Error(err)
			}
		} else if ctx.Err() == nil {
			s.t.Error(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if s.process != nil {
		_ = s.process.Process.Kill()
	}
	s.waiting.Wait()
}

// read returns the addresses that synapse finds: in a name that begins with
// base64_, or else in the data of a child, if that is an object with a host and a
// port. Weights and what else it says change nothing.
func (s *synapse) read(ctx context.Context) ([]string, error) {
	const dir = registry.Root + "/" + web
	names, _, err := s.conn.Children(ctx, dir)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, err
	}
	var servers []string
	for _, name := range names {
		var text []byte
		if encoded, ok := strings.CutPrefix(name, "base64_"); ok {
			digits, encoded, _ := strings.Cut(encoded, "_")
			if n, err := strconv.Atoi(digits); err == nil && n <= len(encoded) {
				text, _ = base64.URLEncoding.DecodeString(encoded[:n])
			}
		}
		if text == nil {
			if text, _, err = s.conn.Get(ctx, dir+"/"+name); err != nil {
				continue // it went after it was listed
			}
		}
		var node map[string]any
		if json.Unmarshal(text, &node) != nil || node["host"] == nil || node["port"] == nil {
			continue // skip child due to invalid data
		}
		servers = append(servers, fmt.Sprintf("%v:%v", node["host"], node["port"]))
	}
	return servers, nil
}

func (s *synapse) apply(servers []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]bool{}
	}
	reload := s.process == nil
	for server, there := range s.known {
		if now := slices.Contains(servers, server); there != now {
			s.known[server] = now
			if err := s.tell(map[bool]string{true: "enable", false: "disable"}[now] + " server web/" + server); err != nil {
				return err
			}
		}
	}
	for _, server := range servers {
		if _, known := s.known[server]; !known {
			s.known[server], reload = true, true
		}
	}
	if !reload {
		return nil
	}
	return s.reload()
}

func (s *synapse) socket() string { return filepath.Join(s.dir, "stats.sock") }

func (s *synapse) tell(command string) error {
	c, err := net.Dial("unix", s.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, command)
	answer, err := io.ReadAll(c)
	if text := strings.TrimSpace(string(answer)); err == nil && text != "" {
		err = fmt.Errorf("%s: %s", command, text)
	}
	return err
}

func (s *synapse) reload() error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "global\n stats socket %s level admin expose-fd listeners\ndefaults\n mode http\n retries 0\n", s.socket())
	fmt.Fprintf(&b, " timeout connect 1s\n timeout client 10s\n timeout server 10s\n")
	fmt.Fprintf(&b, "frontend web\n bind %s\n default_backend web\nbackend web\n", s.frontend())
	for _, server := range slices.Sorted(maps.Keys(s.known)) {
		fmt.Fprintf(&b, " server %s %s", server, server)
		if !s.known[server] {
			b.WriteString(" disabled")
		}
		b.WriteByte('\n')
	}
	config := filepath.Join(s.dir, "haproxy.cfg")
	if err := os.WriteFile(config, b.Bytes(), 0o600); err != nil {
		return err
	}
	args := []string{"-db", "-f", config}
	if s.process != nil {
		args = append(args, "-x", s.socket(), "-sf", strconv.Itoa(s.process.Process.Pid))
	}
	cmd := exec.Command(s.haproxy, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.waiting.Go(func() { _ = cmd.Wait() }) // an old one ends by itself, the last is killed
	s.process = cmd
	// The new process owns the socket once it serves.
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if pid, err := s.pid(); err == nil && pid == cmd.Process.Pid {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("HAProxy does not start")
}

func (s *synapse) pid() (int, error) {
	c, err := net.Dial("unix", s.socket())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	fmt.Fprintln(c, "show info")
	answer, err := io.ReadAll(c)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(answer), "\nPid: ")
	digits, _, _ := strings.Cut(rest, "\n")
	return strconv.Atoi(digits)
}
