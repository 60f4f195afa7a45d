//go:build linux

package benchreload

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
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// slowConnect is how long a connect may take before we say that its SYN must
// have been lost: the kernel sends one again after a second.
const slowConnect = 900 * time.Millisecond

// backend is a real HTTP server.
type backend struct {
	port int
	srv  *http.Server
}

func startBackend() (*backend, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &backend{port: l.Addr().(*net.TCPAddr).Port}
	b.srv = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hello\n") // the client notices
		}),
	}
	go func() { _ = b.srv.Serve(l) }() // ends with close
	return b, nil
}

func (b *backend) close() { _ = b.srv.Close() }

// A point is one request in the picture.
type point struct {
	at     time.Duration // since the load began
	took   time.Duration
	failed bool
}

// load is many clients, each with one connection a request and one attempt a
// connection.
type load struct {
	start   time.Time
	n       atomic.Int64
	clients []*client
	wait    sync.WaitGroup
}

type client struct {
	points []point
	slow   int
	errors map[string]int
}

// startLoad starts clients that go on until ctx ends.
func startLoad(ctx context.Context, concurrency int) *load {
	l := &load{start: time.Now()}
	target := net.JoinHostPort(plug.DefaultAddress.String(), strconv.Itoa(proxyPort))
	for range concurrency {
		c := &client{errors: map[string]int{}}
		l.clients = append(l.clients, c)
		l.wait.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				connect, err := request(target)
				c.points = append(c.points, point{start.Sub(l.start), time.Since(start), err != nil})
				if connect > slowConnect {
					c.slow++
				}
				if err != nil {
					c.errors[kindOf(err)]++
				}
				l.n.Add(1)
			}
		})
	}
	return l
}

func (l *load) count() int { return int(l.n.Load()) }

// result waits for the clients and sums up. Their context must have ended.
func (l *load) result() Result {
	l.wait.Wait()
	r := Result{Errors: map[string]int{}}
	for _, c := range l.clients {
		r.points = append(r.points, c.points...)
		r.Slow += c.slow
		for kind, n := range c.errors {
			r.Errors[kind] += n
			r.Failed += n
		}
	}
	r.Requests = len(r.points)
	took := make([]time.Duration, 0, len(r.points))
	for _, p := range r.points {
		took = append(took, p.took)
	}
	slices.Sort(took)
	r.P50, r.P99, r.P999, r.Max = ms(quantile(took, 0.5)), ms(quantile(took, 0.99)), ms(quantile(took, 0.999)), ms(quantile(took, 1))
	return r
}

// quantile returns the q-th quantile of sorted durations, 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q * float64(len(sorted)))
	return sorted[min(i, len(sorted)-1)]
}

var errAnswer = errors.New("wrong answer")

// request makes one connection and one request on it. It returns how long the
// connect took.
func request(target string) (time.Duration, error) {
	start := time.Now()
	c, err := net.DialTimeout("tcp", target, 10*time.Second)
	connect := time.Since(start)
	if err != nil {
		return connect, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(start.Add(20 * time.Second)); err != nil {
		return connect, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"); err != nil {
		return connect, fmt.Errorf("write: %w", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return connect, fmt.Errorf("read: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return connect, fmt.Errorf("read: %w", err)
	}
	if answer.StatusCode != http.StatusOK || string(body) != "hello\n" {
		return connect, fmt.Errorf("%w: status %d", errAnswer, answer.StatusCode)
	}
	return connect, nil
}

// kindOf makes few kinds of many errors.
func kindOf(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an answer"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	}
	return err.Error()
}

// synRetransmissions reads this namespace's count of SYNs that were sent again.
func synRetransmissions() (int, error) {
	text, err := os.ReadFile("/proc/self/net/netstat")
	if err != nil {
		return 0, err
	}
	lines := bytes.Split(text, []byte("\n"))
	for i := 0; i+1 < len(lines); i += 2 { // a line of names, a line of values
		names, values := bytes.Fields(lines[i]), bytes.Fields(lines[i+1])
		if at := slices.IndexFunc(names, func(n []byte) bool { return string(n) == "TCPSynRetrans" }); at >= 0 && at < len(values) {
			return strconv.Atoi(string(values[at]))
		}
	}
	return 0, errors.New("this kernel does not count retransmitted SYNs (TCPSynRetrans)")
}
