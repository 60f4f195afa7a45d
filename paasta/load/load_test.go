//go:build linux

package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestCountsEveryFailure(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 5:
			panic(http.ErrAbortHandler) // the connection is reset without an answer
		default:
			fmt.Fprintln(w, "hello from v1")
		}
	}))
	defer srv.Close()
	l := Start(t.Context(), Options{Targets: []Target{{Name: "here", URL: srv.URL}}, Workers: 1, Pause: time.Millisecond})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if sent, _ := l.Snapshot(); sent >= 10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("ten requests take more than ten seconds")
		}
	}
	r := l.Stop()
	if r.Failed != 2 || len(r.Errors) != 2 || r.Sent != int(n.Load()) || int(r.Latency.Count) != r.Sent {
		t.Errorf("got %+v after %d requests, want 2 failures and no second attempt", r, n.Load())
	}
	if _, ok := r.FirstWith("v1"); !ok {
		t.Error("the answer was not noted")
	}
	if _, ok := r.FirstWith("v2"); ok {
		t.Error("an answer was noted that never came")
	}
}

// A slow connection is a failure even when the request is answered.
func TestSlowConnectFails(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	defer srv.Close()
	_, err := Once(t.Context(), Target{Name: "slow", URL: srv.URL, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		time.Sleep(slowConnect + 50*time.Millisecond)
		return new(net.Dialer).DialContext(ctx, network, address)
	}}, 10*time.Second)
	if err == nil || !strings.Contains(err.Error(), "connecting took") {
		t.Errorf("got %v, want a word about connecting", err)
	}
}
