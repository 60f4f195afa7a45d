package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types"

	"github.com/gopaasta/paasta/paasta/command"
)

// frozen is an engine as SIGSTOP leaves it: the kernel takes connections, and
// nobody reads them.
func frozen(t *testing.T) (host string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "unix://" + file
}

func engineAt(t *testing.T, host string) *Client {
	t.Helper()
	c, err := New(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAsk(t *testing.T) {
	t.Parallel()
	var hinted command.HintedError
	c := engineAt(t, frozen(t))
	if err := c.ask(t.Context(), 50*time.Millisecond); !errors.Is(err, ErrSilent) || !errors.As(err, &hinted) || !strings.Contains(err.Error(), "d.sock for 50ms") {
		t.Errorf("a frozen engine: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.ask(ended, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("told to stop: %v", err)
	}
	if _, err := Dial(t.Context(), "unix://"+filepath.Join(t.TempDir(), "none")); errors.Is(err, ErrSilent) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "start Docker") {
		t.Errorf("no engine: %v", err)
	}
}

// A wait for a container ends when the engine freezes, and not because it was
// slow once.
func TestWatch(t *testing.T) {
	t.Parallel()
	var frozen atomic.Bool
	asked := make(chan struct{}, 100)
	file := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	answers := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		if frozen.Load() {
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, "OK")
	})}
	go func() { _ = answers.Serve(l) }() // until it is closed
	t.Cleanup(func() { answers.Close() })
	ctx, stop := engineAt(t, "unix://"+file).watch(t.Context(), time.Millisecond, 200*time.Millisecond)
	defer stop()
	for range 5 {
		<-asked
	}
	if ctx.Err() != nil {
		t.Fatalf("an engine that answers: %v", context.Cause(ctx))
	}
	frozen.Store(true)
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("nobody sees that it is frozen")
	}
	if !errors.Is(context.Cause(ctx), ErrSilent) {
		t.Errorf("it ended with %v", context.Cause(ctx))
	}
	// Stopped, it leaves nothing and says nothing.
	ctx, stop = engineAt(t, "unix://"+file).watch(t.Context(), time.Hour, time.Hour)
	stop()
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("stopped, its cause is %v", context.Cause(ctx))
	}
}

// Docker's client itself would wait for ever.
func TestHijack(t *testing.T) {
	t.Parallel()
	c := engineAt(t, frozen(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
		conn, err := c.DialHijack(ctx, "/containers/x/attach", "tcp", nil)
		return types.HijackedResponse{Conn: conn}, err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
