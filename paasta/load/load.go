//go:build linux

// Package load sends requests while something else is going on, and counts
// what became of them. It is strict: each request is one attempt on a
// connection of its own, and one whose connecting took a retransmission counts
// as failed even if it was answered. The demo, bench-reload and the end-to-end
// tests use it.
package load

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta"
)

// A Target is one way to a service.
type Target struct {
	Name string // e.g. "from the host"
	URL  string
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: as usual
}

// Options say what is sent. Targets is required.
type Options struct {
	Targets []Target
	Workers int           // for each target; default 2
	Pause   time.Duration // of a worker between two requests
	Timeout time.Duration // of one request; default 10s
	// Observe is called with every request that has ended, one at a time.
	Observe func(Request)
}

// A Request is one that has ended.
type Request struct {
	Began time.Time
	Took  time.Duration
	Err   error // wraps ErrSYNResent if it was answered, but connecting took too long
}

// ErrSYNResent says that the kernel had to send a connection's SYN again.
var ErrSYNResent = errors.New("its SYN was sent again")

// slowConnect is more than connecting on one machine takes without a SYN that
// was sent a second time: the kernel waits one second for that.
const slowConnect = 900 * time.Millisecond

// A Result is what became of the requests.
type Result struct {
	Sent, Failed int
	Errors       []string             // of the first failures, at most 20
	First        map[string]time.Time // when each answer (without its last word) came first
	Latency      paasta.Histogram     // of all requests
}

// Quantile returns the time within which a share q (0 to 1) of the requests ended.
func (r *Result) Quantile(q float64) time.Duration {
	return time.Duration(r.Latency.Quantile(q)) * time.Microsecond
}

// FirstWith returns when an answer that contains text came first.
func (r *Result) FirstWith(text string) (time.Time, bool) {
	var first time.Time
	for answer, at := range r.First {
		if strings.Contains(answer, text) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first, !first.IsZero()
}

// A Load is being sent.
type Load struct {
	o    Options
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	result Result
}

// Start begins to send. The caller calls Stop.
func Start(ctx context.Context, o Options) *Load {
	o.Workers, o.Timeout = cmp.Or(o.Workers, 2), cmp.Or(o.Timeout, 10*time.Second)
	ctx, stop := context.WithCancel(ctx)
	l := &Load{o: o, stop: stop, result: Result{First: map[string]time.Time{}}}
	for _, target := range o.Targets {
		for range o.Workers {
			l.wg.Go(func() { l.work(ctx, target) })
		}
	}
	return l
}

// Stop lets the requests that were begun end, and returns what became of all.
func (l *Load) Stop() *Result {
	l.stop()
	l.wg.Wait()
	return &l.result
}

// Snapshot tells how many were sent and failed so far.
func (l *Load) Snapshot() (sent, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result.Sent, l.result.Failed
}

// Seen tells whether an answer that contains text has come.
func (l *Load) Seen(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.result.FirstWith(text)
	return ok
}

func (l *Load) work(ctx context.Context, target Target) {
	for ctx.Err() == nil {
		r := Request{Began: time.Now()}
		// A request that was begun is finished, so it does not take ctx's end.
		var answer string
		answer, r.Err = Once(context.WithoutCancel(ctx), target, l.o.Timeout)
		r.Took = time.Since(r.Began)
		l.record(target, answer, r)
		if l.o.Pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(l.o.Pause):
			}
		}
	}
}

func (l *Load) record(target Target, answer string, r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Sent++
	l.result.Latency.Observe(uint64(r.Took.Microseconds()))
	if l.o.Observe != nil {
		l.o.Observe(r)
	}
	if r.Err != nil {
		l.result.Failed++
		if len(l.result.Errors) < 20 {
			l.result.Errors = append(l.result.Errors, fmt.Sprintf("%s %s: %v", r.Began.Format("15:04:05.000"), target.Name, r.Err))
		}
	} else if _, seen := l.result.First[answer]; !seen {
		l.result.First[answer] = r.Began.Add(r.Took)
	}
}

// Once makes one attempt at one request, and returns the body. Any answer but
// 200 is an error, and so is a connection that took a retransmission.
func Once(ctx context.Context, target Target, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.URL, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	dial := target.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	began := time.Now()
	conn, err := dial(ctx, "tcp", net.JoinHostPort(req.URL.Hostname(), cmp.Or(req.URL.Port(), "80")))
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", target.URL, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	resent := synResent(conn, time.Since(began))
	if err := req.Write(conn); err != nil {
		return "", fmt.Errorf("GET %s: %w", target.URL, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return "", fmt.Errorf("GET %s: read the answer: %w", target.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return "", fmt.Errorf("GET %s: read the answer: %w", target.URL, err)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("GET %s: %s: %s", target.URL, resp.Status, strings.TrimSpace(string(body)))
	}
	return strings.TrimSpace(string(body)), resent
}

// synResent is an error when making conn took a second SYN.
func synResent(conn net.Conn, took time.Duration) error {
	resent := took > slowConnect
	if tcp, ok := conn.(*net.TCPConn); ok && !resent {
		raw, err := tcp.SyscallConn()
		if err != nil {
			return err
		}
		var info *unix.TCPInfo
		var infoErr error
		err = raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
		if err := errors.Join(err, infoErr); err != nil {
			return err
		}
		resent = info.Total_retrans > 0
	}
	if resent {
		return fmt.Errorf("connecting took %s: %w", took.Round(time.Millisecond), ErrSYNResent)
	}
	return nil
}
