package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

func TestOnce(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/nowhere", http.StatusFound)
		case "/host":
			fmt.Fprint(w, r.Host, r.Header.Get("X-Mode"))
		case "/slow":
			<-r.Context().Done()
		case "/sick":
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	addr := netip.MustParseAddrPort(srv.Listener.Addr().String())
	header := []haproxy.Header{{Name: "Host", Value: "web"}, {Name: "X-Mode", Value: "ro"}}
	tests := map[string]struct {
		check haproxy.Check
		err   string
	}{
		"ok":                   {haproxy.Check{Mode: "http", Path: "/"}, ""},
		"a redirect is fine":   {haproxy.Check{Mode: "http", Path: "/moved"}, ""},
		"sick":                 {haproxy.Check{Mode: "http", Path: "/sick"}, "503 Service Unavailable"},
		"slow":                 {haproxy.Check{Mode: "http", Path: "/slow"}, "deadline exceeded"},
		"the body and headers": {haproxy.Check{Mode: "http", Path: "/host", Headers: header, BodyExpect: "webro"}, ""},
		"another body":         {haproxy.Check{Mode: "http", Path: "/host", BodyExpect: "nothing"}, `does not contain "nothing"`},
		"tcp":                  {haproxy.Check{Mode: "tcp"}, ""},
		"another port":         {haproxy.Check{Mode: "tcp", Port: 1}, "refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.check.Timeout = 2 * time.Second
			if name == "slow" {
				tt.check.Timeout = 50 * time.Millisecond
			}
			err := Once(t.Context(), addr, tt.check)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	sick.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	addr := netip.MustParseAddrPort(srv.Listener.Addr().String())
	check := haproxy.Check{Mode: "http", Path: "/", Timeout: time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	p := &Pool{Size: 2}
	passed, down := make(chan struct{}, 10), make(chan struct{}, 1)
	for range 10 {
		p.UntilPass(ctx, Urgent, addr, check, func(error) { sick.Store(false) }, func() { passed <- struct{}{} })
	}
	wait := func(ch <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-ch:
		case <-time.After(10 * time.Second):
			t.Fatal(what)
		}
	}
	for range 10 {
		wait(passed, "did not pass")
	}
	sick.Store(true)
	p.UntilDown(ctx, addr, check, func() { down <- struct{}{} })
	wait(down, "is not down")
	cancel()
	p.Wait()
}

// counting is a context that counts who waits for its end.
type counting struct {
	context.Context
	done    chan struct{}
	waiting *atomic.Int64
}

func (c counting) Done() <-chan struct{} { return c.done }
func (c counting) Value(any) any         { return nil }

// AfterFunc is what package context looks for.
func (c counting) AfterFunc(func()) (stop func() bool) {
	c.waiting.Add(1)
	return func() bool { c.waiting.Add(-1); return true }
}

// A server that does not pass is probed for as long as its registration lives:
// no probe may leave anything behind.
func TestProbesLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddrPort("127.0.0.1:1") // refuses
	var waiting atomic.Int64
	ctx := counting{context.Background(), make(chan struct{}), &waiting}
	p := &Pool{Size: 1}
	enough := make(chan struct{})
	probes := 0
	p.try(ctx, Urgent, addr, haproxy.Check{Mode: "tcp", Timeout: time.Second}, time.Microsecond, func(error, time.Duration) (time.Duration, bool) {
		if probes++; probes == 20 {
			close(enough)
		}
		return time.Microsecond, probes < 20
	})
	select {
	case <-enough:
	case <-time.After(10 * time.Second):
		t.Fatal("did not probe 20 times within 10 s")
	}
	p.Wait()
	if n := waiting.Load(); n != 0 {
		t.Errorf("after 20 probes, %d wait for the end of their registration", n)
	}
}

// A server that somebody waits for is not behind the thousands that HAProxy has
// already, though none of those answers.
func TestTheBackgroundWaits(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer answers.Close()
	at := func(l net.Listener) netip.AddrPort { return netip.MustParseAddrPort(l.Addr().String()) }
	ctx, cancel := context.WithCancel(t.Context())
	p := &Pool{Size: 8}
	check := haproxy.Check{Mode: "http", Path: "/", Timeout: time.Minute}
	for range 1000 {
		p.UntilPass(ctx, Background, at(silent), check, func(error) {}, func() {})
		p.UntilDown(ctx, at(silent), check, func() {})
	}
	passed := make(chan struct{}, 100)
	for range cap(passed) {
		p.UntilPass(ctx, Urgent, at(answers.Listener), check, func(error) {}, func() { passed <- struct{}{} })
	}
	for range cap(passed) {
		select {
		case <-passed:
		case <-time.After(20 * time.Second):
			t.Fatal("is behind the background")
		}
	}
	p.mu.Lock()
	if p.background != 2 || p.running > 8 {
		t.Errorf("%d of %d that run are of the background, want 2", p.background, p.running)
	}
	p.mu.Unlock()
	cancel()
	p.Wait()
}
