package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// An sshError is what ssh said when it ended without what was wanted at the
// other end: Docker, or an address there.
type sshError struct{ what, host, said string }

func (e *sshError) Error() string { return fmt.Sprintf("reach %s on %s: %s", e.what, e.host, e.said) }

// A Dialer makes connections, as that of package net does.
type Dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// Through returns a dialer for addresses as the machine of an engine sees them,
// so that a container there is reached without a published port. It is nil for
// engines that are not reached by ssh.
func Through(host string) (Dialer, error) {
	if !strings.HasPrefix(host, "ssh://") {
		return nil, nil
	}
	u, args, err := sshTo(host)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		c, err := startSSH(address, u.Host, append(slices.Clone(args), "-o", "LogLevel=DEBUG2", "-W", address, "--", u.Hostname())...)
		if err != nil {
			return nil, err
		}
		// Standard input and output are there long before anybody has answered at
		// the other end. Only what ssh logs tells.
		select {
		case <-c.said.opened:
			return c, nil
		case <-c.ended:
			return nil, c.explain(io.EOF)
		case <-ctx.Done():
			c.Close()
			return nil, ctx.Err()
		}
	}, nil
}

// overSSH returns a host's name and a dialer that runs "docker system
// dial-stdio" there, which is how Docker's own client does it.
func overSSH(host string) (name string, dialer Dialer, err error) {
	u, args, err := sshTo(host)
	if err != nil {
		return "", nil, err
	}
	args = append(args, "--", u.Hostname(), "docker", "system", "dial-stdio")
	return u.Hostname(), func(context.Context, string, string) (net.Conn, error) {
		return startSSH("Docker", u.Host, args...)
	}, nil
}

// sshTo reads DOCKER_HOST and returns ssh's options for it.
func sshTo(host string) (u *url.URL, args []string, err error) {
	u, err = url.Parse(host)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || strings.HasPrefix(u.Hostname(), "-") {
		return nil, nil, fmt.Errorf("DOCKER_HOST=%q: want ssh://[USER@]HOST[:PORT]", host)
	}
	args = []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=15"}
	if u.User != nil {
		args = append(args, "-l", u.User.Username())
	}
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
	}
	return u, args, nil
}

// startSSH starts an ssh whose standard input and output are a connection.
func startSSH(what, host string, args ...string) (*sshConn, error) {
	cmd := exec.Command("ssh", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	c := &sshConn{cmd: cmd, in: in, out: out, what: what, host: host, ended: make(chan struct{}), said: sshLog{opened: make(chan struct{})}}
	if err := cmd.Start(); err != nil {
		return nil, &sshError{what, host, err.Error()}
	}
	go func() {
		defer close(c.ended)
		c.said.read(log)
	}()
	return c, nil
}

// An sshConn is the two ends of an ssh as one connection.
type sshConn struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   io.Reader // a pipe
	what  string
	host  string
	said  sshLog
	ended chan struct{} // closed once ssh says no more
	once  sync.Once
}

func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	return n, c.explain(err)
}

func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.in.Write(p)
	return n, c.explain(err)
}

// explain says what ssh said, which "EOF" and "broken pipe" do not.
func (c *sshConn) explain(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.Close() // waits for the rest of what it says
	if said := c.said.lastLine(); said != "" {
		return &sshError{c.what, c.host, said}
	}
	return err
}

// CloseWrite tells the other end that there is no more to come.
func (c *sshConn) CloseWrite() error { return c.in.Close() }

// Close ends ssh. It may be called more than once.
func (c *sshConn) Close() error {
	c.once.Do(func() {
		c.in.Close()
		select {
		case <-c.ended:
		case <-time.After(time.Second):
			_ = c.cmd.Process.Kill() // it may have ended just now
		}
		_ = c.cmd.Wait() // that it ended is what counts
	})
	return nil
}

type sshAddr string

func (sshAddr) Network() string  { return "ssh" }
func (a sshAddr) String() string { return string(a) }

func (c *sshConn) LocalAddr() net.Addr  { return sshAddr("localhost") }
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr(c.host) }

// SetReadDeadline bounds reads, as pipes can.
func (c *sshConn) SetReadDeadline(t time.Time) error {
	if f, ok := c.out.(*os.File); ok {
		return f.SetReadDeadline(t)
	}
	return nil
}

// Nobody needs deadlines for the other direction.
func (c *sshConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *sshConn) SetWriteDeadline(time.Time) error { return nil }

// An sshLog is what ssh logs.
type sshLog struct {
	opened chan struct{} // closed once somebody has answered at the other end of -W

	mu   sync.Mutex
	last string // line that is not of every connection
}

// answered is what ssh logs, from LogLevel DEBUG2 on, when the other end of -W is
// connected: itself, or through a running ssh (ControlMaster).
var answered = regexp.MustCompile(`: open confirm rwindow |^debug1: mux_client_request_stdio_fwd: master session id: `)

// usual is how lines begin that are no news.
var usual = regexp.MustCompile(`^(debug[123]: |Authenticated to |Transferred: |Bytes per second: |stdio forwarding failed|$)`)

func (l *sshLog) read(from io.Reader) {
	opened := sync.OnceFunc(func() { close(l.opened) })
	for lines := bufio.NewScanner(from); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if answered.MatchString(line) {
			opened()
		}
		if !usual.MatchString(line) {
			l.mu.Lock()
			l.last = line
			l.mu.Unlock()
		}
	}
	_, _ = io.Copy(io.Discard, from) // after a line that is too long
}

func (l *sshLog) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
