package environment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/testdeps/gateway"
	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// readyOf says when a node is ready: what its declaration says, else the health
// check of its soa-configs, else that its port accepts connections.
func readyOf(n *graph.Node) (r soaconfig.Ready, tls bool) {
	r = n.Dep.Ready
	if r.HTTP != "" || r.TCP || r.Cmd != "" || r.Log != "" {
		return r, false
	}
	if n.Service == nil {
		r.TCP = n.Port() != 0
		return r, false
	}
	h := marathon.HealthOf(n.Instance, primary(n))
	switch h.Mode {
	case "http", "https":
		r.HTTP, tls = h.URI, h.Mode == "https"
	case "tcp":
		r.TCP = true
	case "cmd":
		r.Cmd = h.Cmd
	}
	return r, tls
}

// check is the part that the gateway does.
func (u *up) check(n *graph.Node) (gateway.Check, bool) {
	r, tls := readyOf(n)
	if r.HTTP == "" && !r.TCP {
		return gateway.Check{}, false
	}
	at := net.JoinHostPort(u.place.address(n).String(), strconv.Itoa(n.Port()))
	return gateway.Check{Address: at, Path: r.HTTP, TLS: tls}, true
}

// checksOf are all of them.
func (u *up) checksOf() map[string]gateway.Check {
	checks := map[string]gateway.Check{}
	for _, n := range u.g.Nodes {
		if c, ok := u.check(n); ok {
			checks[n.Name] = c
		}
	}
	return checks
}

// waitReady waits until all that readyOf says is so, or the container ends.
func (u *up) waitReady(ctx context.Context, n *graph.Node, id string, ended <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	var late error // why it is not ready; once done
	go func() {
		defer close(done)
		late = u.inTime(ctx, n, id)
	}()
	select {
	case <-done:
		if late != nil {
			return late
		}
		// A container that does nothing but end is not ready.
		select {
		case err := <-ended:
			return err
		default:
			return nil
		}
	case err := <-ended:
		cancel()
		<-done
		return err
	}
}

// inTime is checks within the time that the node has for it, which begins when
// there is somebody to look.
func (u *up) inTime(ctx context.Context, n *graph.Node, id string) error {
	passed := make(chan struct{})
	if c, looks := u.check(n); looks {
		// Where this machine reaches containers itself, nobody waits for the gateway.
		if u.place.near {
			go func() {
				if gateway.Wait(ctx, c) == nil {
					close(passed)
				}
			}()
		}
		select {
		case <-u.gatewayUp:
		case <-passed:
		case <-ctx.Done():
			return context.Canceled
		}
	}
	limit := n.Dep.Ready.Timeout
	waiting, cancel := context.WithTimeoutCause(ctx, limit, errLate)
	defer cancel()
	err := u.checks(waiting, n, id, passed)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(waiting), errLate) {
		return fmt.Errorf("not ready within %s: %w", limit, err)
	}
	return err
}

var errLate = errors.New("its timeout is over")

// checks waits for one condition after the other; passed is closed when the
// connection or the request is known to work.
func (u *up) checks(ctx context.Context, n *graph.Node, id string, passed <-chan struct{}) error {
	r, _ := readyOf(n)
	if r.Log != "" {
		if err := u.waitLog(ctx, id, r.Log); err != nil {
			return err
		}
	}
	if r.HTTP != "" || r.TCP {
		if err := u.waitGateway(ctx, n.Name, passed); err != nil {
			return err
		}
	}
	if r.Cmd != "" {
		return u.waitCmd(ctx, id, r.Cmd)
	}
	return nil
}

// waitGateway lets the gateway look, which sees what clients inside will see,
// unless passed is closed.
func (u *up) waitGateway(ctx context.Context, name string, passed <-chan struct{}) error {
	select {
	case <-passed:
		return nil
	default:
	}
	limit := time.Hour
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	// It says what it saw last when the time is over, so it is given a little
	// longer for that.
	asking, cancel := within(ctx, limit+5*time.Second)
	defer cancel()
	go func() {
		select {
		case <-passed:
			cancel()
		case <-asking.Done():
		}
	}()
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), errLate) {
			cancel()
		}
	})
	defer stop()
	answer, err := u.x.asker.ask(asking, gateway.Question{Ready: name, Within: limit})
	select {
	case <-passed:
		return nil
	default:
	}
	if err != nil {
		return err
	}
	if answer.Why != "" {
		<-ctx.Done() // within a moment
		return errors.New(answer.Why)
	}
	return nil
}

// waitLog waits for a line of the container's log.
func (u *up) waitLog(ctx context.Context, id, pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	never := fmt.Errorf("no line of its log matches %q", pattern)
	r, err := u.e.docker.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
	if err != nil {
		return err
	}
	defer r.Close()
	lines, w := io.Pipe()
	defer lines.Close()
	go func() {
		_, err := stdcopy.StdCopy(w, w, r)
		w.CloseWithError(err)
	}()
	in := bufio.NewReader(lines)
	for {
		line, err := in.ReadString('\n')
		if re.MatchString(strings.TrimRight(line, "\r\n")) {
			return nil
		}
		if err != nil {
			<-ctx.Done() // the container has ended, or soon this wait has
			return never
		}
	}
}

// waitCmd runs a command in the container until it succeeds.
func (u *up) waitCmd(ctx context.Context, id, command string) error {
	var last error
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		code, said, err := u.e.docker.Exec(ctx, id, "sh", "-c", command)
		switch {
		case err == nil && code == 0:
			return nil
		case ctx.Err() != nil && last != nil:
			return last // says more than that the time was over in the middle of a run
		case errors.Is(err, daemon.ErrExecTimeout):
			return fmt.Errorf("%q goes on and on", command)
		case ctx.Err() != nil:
			return errors.New("it was not run")
		case err != nil:
			last = err
		default:
			last = fmt.Errorf("%q exits with %d: %s", command, code, said[max(0, len(said)-300):])
		}
		pause(ctx, wait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
