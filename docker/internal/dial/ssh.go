package dial

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// An sshError is what ssh said when it ended without an engine at the other end.
type sshError struct{ host, said string }

func (e *sshError) Error() string { return fmt.Sprintf("reach Docker on %s: %s", e.host, e.said) }

// overSSH returns a host's name and a dialer that runs "docker system
// dial-stdio" there, which is how Docker's own client does it.
func overSSH(host string) (name string, dialer func(context.Context, string, string) (net.Conn, error), err error) {
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || strings.HasPrefix(u.Hostname(), "-") {
		return "", nil, fmt.Errorf("DOCKER_HOST=%q: want ssh://[USER@]HOST[:PORT]", host)
	}
	args := []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=15"}
	if u.User != nil {
		args = append(args, "-l", u.User.Username())
	}
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
	}
	args = append(args, "--", u.Hostname(), "docker", "system", "dial-stdio")
	return u.Hostname(), func(context.Context, string, string) (net.Conn, error) {
		cmd := exec.Command("ssh", args...)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		c := &sshConn{cmd: cmd, in: in, out: out, host: u.Host}
		cmd.Stderr = &c.said
		if err := cmd.Start(); err != nil {
			return nil, &sshError{u.Host, err.Error()}
		}
		return c, nil
	}, nil
}

// An sshConn is the two ends of an ssh as one connection.
type sshConn struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader
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
	if err == nil {
		return nil
	}
	c.Close() // waits for the rest of what it says
	if said := c.said.last(); said != "" {
		return &sshError{c.host, said}
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

// Pipes of a process have no deadlines that net/http would need here.
func (c *sshConn) SetDeadline(t time.Time) error      { return nil }
func (c *sshConn) SetReadDeadline(t time.Time) error  { return nil }
func (c *sshConn) SetWriteDeadline(t time.Time) error { return nil }

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
	return text[strings.LastIndexByte(text, '\n')+1:]
}
