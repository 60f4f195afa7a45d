package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
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
// engines that are not reached by ssh. The connection is there before anybody
// has answered at its other end: a refusal is the first read's error.
func Through(host string) (Dialer, error) {
	if !strings.HasPrefix(host, "ssh://") {
		return nil, nil
	}
	u, args, err := sshTo(host)
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, _, address string) (net.Conn, error) {
		return startSSH(address, u.Host, append(slices.Clone(args), "-W", address, "--", u.Hostname())...)
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
func startSSH(what, host string, args ...string) (net.Conn, error) {
	cmd := exec.Command("ssh", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &sshConn{cmd: cmd, in: in, out: out, what: what, host: host}
	cmd.Stderr = &c.said
	if err := cmd.Start(); err != nil {
		return nil, &sshError{what, host, err.Error()}
	}
	return c, nil
}

// An sshConn is the two ends of an ssh as one connection.
type sshConn struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader // a pipe
	what string
	host string
	said tail
	once sync.Once
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
	if said := c.said.last(); said != "" {
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
		ended := make(chan struct{})
		go func() {
			_ = c.cmd.Wait() // that it ended is what counts
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(time.Second):
			_ = c.cmd.Process.Kill() // it may have ended just now
			<-ended
		}
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

// A tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	text = strings.TrimSpace(strings.TrimSuffix(text, "stdio forwarding failed")) // why stands before it
	return text[strings.LastIndexByte(text, '\n')+1:]
}
