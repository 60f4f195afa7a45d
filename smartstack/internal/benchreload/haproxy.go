//go:build linux

package benchreload

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// proxyPort is where HAProxy listens in the experiment's namespace.
const proxyPort = 20001

// proxy is the running HAProxy: the newest process, and the older ones that
// finish what they have.
type proxy struct {
	dir string
	pid int
	old []int
}

func startHAProxy(ctx context.Context, dir string, backendPort int) (*proxy, error) {
	// Daemons that HAProxy leaves become our children, so that we can wait for
	// them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	config := fmt.Sprintf(`global
  maxconn 4000
  nbthread 1
  hard-stop-after 30s
  stats socket %[1]s/admin.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend web
  bind %[2]s:%[3]d
  default_backend app
backend app
  balance roundrobin
  server a 127.0.0.1:%[4]d
`, dir, plug.DefaultAddress, proxyPort, backendPort)
	if err := os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	h := &proxy{dir: dir}
	return h, h.start(ctx)
}

// start runs a new process and returns when it listens. Without arguments it
// is the first one.
func (h *proxy) start(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	pidFile := filepath.Join(h.dir, "pid")
	args = append([]string{"-D", "-p", pidFile, "-f", filepath.Join(h.dir, "haproxy.cfg")}, args...)
	cmd := exec.CommandContext(ctx, "haproxy", args...)
	// The daemon inherits the output; a pipe would have us wait for its end.
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // HAProxy writes, we do not
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name()) // only for the message
		return fmt.Errorf("start haproxy: %w\n%s", err, text)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read haproxy's pid: %w", err)
	}
	if h.pid != 0 {
		h.old = append(h.old, h.pid)
	}
	h.pid = pid
	return nil
}

// reload replaces the process; with passing, the new one takes over the old
// one's listening sockets instead of opening its own beside them.
func (h *proxy) reload(ctx context.Context, passing bool) error {
	args := []string{"-sf", strconv.Itoa(h.pid)}
	if passing {
		args = append(args, "-x", filepath.Join(h.dir, "admin.sock"))
	}
	if err := h.start(ctx, args...); err != nil {
		return err
	}
	h.reap()
	return nil
}

// reap waits for those of the old processes that have ended.
func (h *proxy) reap() {
	kept := h.old[:0]
	for _, pid := range h.old {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if got == 0 && err == nil {
			kept = append(kept, pid)
		}
	}
	h.old = kept
}

// close ends all of them.
func (h *proxy) close() {
	for _, pid := range append(h.old, h.pid) {
		if pid != 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}
}

// A changer makes one change after the other, by a strategy.
type changer struct {
	proxy    *proxy
	hold     connectionHolder
	port     int // of the second server
	strategy Strategy
	added    bool // runtime: whether the second server is there
	done     int
	failed   int // reloads at which the new process did not start; the old one goes on
	inARow   int
	took     time.Duration // all changes together
	held     time.Duration // all holds together
	longest  time.Duration // the longest one
}

func (c *changer) change(ctx context.Context) error {
	start := time.Now()
	var err error
	switch c.strategy {
	case NoReload:
		return nil
	case Runtime:
		err = c.toggle(ctx)
	default:
		err = c.reload(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return nil // it was interrupted
	}
	c.took += time.Since(start)
	return err
}

func (c *changer) reload(ctx context.Context) error {
	if err := c.hold.Hold(ctx); err != nil {
		return err
	}
	start := time.Now()
	passing := c.strategy != Plain && c.strategy != Drop
	err := c.proxy.reload(ctx, passing)
	released := c.hold.Release(context.WithoutCancel(ctx))
	c.held += time.Since(start)
	c.longest = max(c.longest, time.Since(start))
	if err == nil || released != nil {
		c.done++
		c.inARow = 0
		return released
	}
	// On a machine with too much to do, the old process may not pass its
	// sockets on within HAProxy's second. That is a reload less, not a
	// connection.
	c.failed++
	c.inARow++
	if c.inARow > 10 {
		return err
	}
	return nil
}

// toggle adds the second server, or takes it out again. A server with requests
// in it cannot be deleted yet; the next change tries again.
func (c *changer) toggle(ctx context.Context) error {
	commands := []string{fmt.Sprintf("add server app/b 127.0.0.1:%d", c.port), "enable server app/b"}
	if c.added {
		commands = []string{"set server app/b state maint", "del server app/b"}
	}
	for _, text := range commands {
		answers, err := (&haproxy.Runtime{Socket: filepath.Join(c.proxy.dir, "admin.sock")}).Do(ctx, 0, text)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		switch answer := strings.TrimSpace(answers[0]); {
		case answer == "" || strings.Contains(answer, "registered") || strings.Contains(answer, "deleted"):
		case strings.Contains(answer, "still has connections"):
			return nil
		default:
			return fmt.Errorf("%s: haproxy answered %q", text, answer)
		}
	}
	c.added = !c.added
	c.done++
	return nil
}
