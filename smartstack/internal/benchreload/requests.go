//go:build linux

package benchreload

import (
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
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/load"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// startBackend starts a real HTTP server.
func startBackend() (srv *http.Server, port int, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	srv = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") }), // the client notices
	}
	go func() { _ = srv.Serve(l) }() // ends with Close
	return srv, l.Addr().(*net.TCPAddr).Port, nil
}

// A point is one request in the picture.
type point struct {
	at     time.Duration // since the load began
	took   time.Duration
	failed bool
}

// startLoad starts clients that go on until ctx ends. What their requests come to
// is in the result once the load has stopped.
func startLoad(ctx context.Context, concurrency int) (*load.Load, *Result) {
	r := &Result{Errors: map[string]int{}}
	start := time.Now()
	return load.Start(ctx, load.Options{
		Targets: []load.Target{{URL: fmt.Sprintf("http://%s:%d/", plug.DefaultAddress, proxyPort)}},
		Workers: concurrency, Timeout: 20 * time.Second,
		Observe: func(q load.Request) {
			resent := errors.Is(q.Err, load.ErrSYNResent)
			failed := q.Err != nil && !resent
			r.points = append(r.points, point{q.Began.Sub(start), q.Took, failed})
			if resent {
				r.Slow++
			}
			if failed {
				r.Failed++
				r.Errors[kindOf(q.Err)]++
			}
		},
	}), r
}

// kindOf groups errors for the report.
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
