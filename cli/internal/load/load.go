//go:build linux

// Package load sends requests while something else is going on, and counts
// what became of them. It is strict: each request is one attempt on a
// connection of its own, and one whose connecting took a retransmission counts
// as failed even if it was answered. The demo and the end-to-end tests use it.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
	Pause   time.Duration // of a worker between two requests; default 10ms
	Timeout time.Duration // of one request; default 10s
}

// slowConnect is more than connecting on one machine takes without a SYN that
// was sent a second time: the kernel waits one second for that.
const slowConnect = 900 * time.Millisecond

// A Result is what became of the requests.
type Result struct {
	Sent, Failed int
	Errors       []string             // of the first failures, at most 20
	First        map[string]time.Time // when each answer (without its last word) came first
	Times        []time.Duration      // of those that were answered, ascending
}

// Percentile returns the time within which a share p (0..1) was answered.
func (r *Result) Percentile(p float64) time.Duration {
	if len(r.Times) == 0 {
		return 0
	}
	return r.Times[min(int(p*float64(len(r.Times))), len(r.Times)-1)]
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
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	result Result
}

// Start begins to send. The caller calls Stop.
func Start(ctx context.Context, o Options) *Load {
	if o.Workers == 0 {
		o.Workers = 2
	}
	if o.Pause == 0 {
		o.Pause = 10 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	ctx, stop := context.WithCancel(ctx)
	l := &Load{stop: stop, result: Result{First: map[string]time.Time{}}}
	for _, target := range o.Targets {
		for range o.Workers {
			l.wg.Go(func() { l.work(ctx, o, target) })
		}
	}
	return l
}

// Stop lets the requests that were begun end, and returns what became of all.
func (l *Load) Stop() *Result {
	l.stop()
	l.wg.Wait()
	slices.Sort(l.result.Times)
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

func (l *Load) work(ctx context.Context, o Options, target Target) {
	for ctx.Err() == nil {
		began := time.Now()
		// A request that was begun is finished, so it does not take ctx's end.
		answer, err := Once(context.WithoutCancel(ctx), target, o.Timeout)
		l.note(target, answer, began, err)
		select {
		case <-ctx.Done():
		case <-time.After(o.Pause):
		}
	}
}

func (l *Load) note(target Target, answer string, began time.Time, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Sent++
	if err != nil {
		l.result.Failed++
		if len(l.result.Errors) < 20 {
			l.result.Errors = append(l.result.Errors, fmt.Sprintf("%s %s: %v", began.Format("15:04:05.000"), target.Name, err))
		}
		return
	}
	l.result.Times = append(l.result.Times, now.Sub(began))
	if _, seen := l.result.First[answer]; !seen {
		l.result.First[answer] = now
	}
}

// Once makes one attempt at one request, and returns the body. Any answer but
// 200 is an error, and so is a connection that took a retransmission.
func Once(ctx context.Context, target Target, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial := target.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var dialing error
	t := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			began := time.Now()
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			dialing = retransmitted(conn, time.Since(began))
			return conn, nil
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.URL, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return "", fmt.Errorf("GET %s: read the answer: %w", target.URL, err)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("GET %s: %s: %s", target.URL, resp.Status, strings.TrimSpace(string(body)))
	}
	return strings.TrimSpace(string(body)), dialing
}

// retransmitted is an error when making conn took a second SYN.
func retransmitted(conn net.Conn, took time.Duration) error {
	if took > slowConnect {
		return fmt.Errorf("connecting took %s", took.Round(time.Millisecond))
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	var asking error
	if err := raw.Control(func(fd uintptr) { info, asking = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return err
	}
	if asking != nil {
		return asking
	}
	if info.Total_retrans > 0 {
		return errors.New("connecting took a retransmission")
	}
	return nil
}
