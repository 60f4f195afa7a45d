package nerve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/printable"
	"github.com/gopaasta/paasta/paasta/process"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/probe"
)

// check runs one check. It returns nil when the service passes, else why it
// does not.
func check(ctx context.Context, c soaconfig.LocalCheck) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := run(ctx, c)
	if err != nil && ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer within %v", c.Type, c.Timeout)
	}
	if err != nil { // what a service said is shown on terminals
		return errors.New(c.Type + ": " + printable.Line(err.Error(), 2*longestWhy))
	}
	return nil
}

func run(ctx context.Context, c soaconfig.LocalCheck) error {
	switch c.Type {
	case "http", "https":
		return checkHTTP(ctx, c)
	case "tcp":
		conn, err := dial(ctx, c)
		if err != nil {
			return err
		}
		return conn.Close()
	case "redis":
		return checkRedis(ctx, c)
	case "cmd":
		return checkCommand(ctx, c)
	case "noop":
		return nil
	}
	return fmt.Errorf("unknown type of check %q", c.Type)
}

func dial(ctx context.Context, c soaconfig.LocalCheck) (net.Conn, error) {
	return probe.Dial(ctx, net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
}

// checkHTTP passes when the answer has an accepted status (redirects are
// answers, they are not followed) and its body contains what is expected.
func checkHTTP(ctx context.Context, c soaconfig.LocalCheck) error {
	url := c.Type + "://" + net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) + c.URI
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "paasta-smartstack")
	for name, value := range c.Headers {
		req.Header.Set(name, value)
		if strings.EqualFold(name, "host") {
			req.Host = value
		}
	}
	// Anew for every check: a kept connection would tell that the service was
	// reachable once. Certificates are not verified, as the original's: a check asks
	// whether the service answers, not who it is.
	err = probe.Request(ctx, req, func(resp *http.Response) error {
		if !c.Accepts(resp.StatusCode) {
			return errors.New(resp.Status)
		}
		return probe.Expect(resp.Body, c.Expect)
	})
	if err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// checkRedis asks PING and then EXISTS, which a proxy cannot answer while the
// real server behind it is away.
func checkRedis(ctx context.Context, c soaconfig.LocalCheck) error {
	conn, err := dial(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "PING\r\nEXISTS nerve-redis-service-check\r\n"); err != nil {
		return err
	}
	answers := bufio.NewReaderSize(conn, 512)
	for _, want := range []string{"+PONG", ":"} {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if !bytes.HasPrefix(line, []byte(want)) {
			return fmt.Errorf("answered %q, want %s…", bytes.TrimSpace(line), want)
		}
	}
	return nil
}

// checkCommand passes when the shell command exits 0. It runs in a process group
// of its own, which ends with it: a check that leaves children would leave more
// of them each time.
func checkCommand(ctx context.Context, c soaconfig.LocalCheck) error {
	output, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.Command("/bin/sh", "-c", c.Cmd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = w, w // a file: Wait waits for the shell, and not for whoever else holds it
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // of those that are gone, nobody
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { kill(); close(killed) })
	read := make(chan struct{})
	out := &process.Tail{Max: longestWhy}
	go func() {
		defer close(read)
		_, _ = io.Copy(out, output) // until all have closed it, or it is time
	}()
	err = waitThenKill(cmd, func() {
		if !stop() {
			<-killed
		}
		kill()
	})
	// Who has left the group may hold the pipe for ever.
	_ = output.SetReadDeadline(time.Now().Add(lastWords))
	<-read
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(out.String()); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// lastWords is how long output is read on once a check's shell has ended.
const lastWords = 100 * time.Millisecond

// longestWhy bounds what is kept of why a check fails.
const longestWhy = 256
