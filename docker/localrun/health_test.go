package localrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta/marathon"
)

var check = marathon.HealthCheck{
	Protocol: "MESOS_HTTP", Path: "/status", GracePeriodSeconds: 60, IntervalSeconds: 10, TimeoutSeconds: 5, MaxConsecutiveFailures: 3,
}

func TestAwait(t *testing.T) {
	tests := map[string]struct {
		healthyAfter time.Duration // 0: never
		hangs        bool
		want         []string
		err          error
		took         time.Duration
	}{
		"healthy at once": {1, false, []string{"Healthcheck succeeded!: 200 OK"}, nil, 0},
		"healthy within its grace": {30 * time.Second, false, []string{
			"Healthcheck failed!: 503 (disregarded due to grace period)", "Healthcheck succeeded!: 200 OK",
		}, nil, 30 * time.Second},
		"healthy soon after its grace": {75 * time.Second, false, []string{
			"Healthcheck failed!: 503 (disregarded due to grace period)", "Healthcheck failed!: 503 (1 of 3)", "Healthcheck failed!: 503 (2 of 3)", "Healthcheck succeeded!: 200 OK",
		}, nil, 80 * time.Second},
		"never healthy": {0, false, []string{
			"Healthcheck failed!: 503 (disregarded due to grace period)", "Healthcheck failed!: 503 (1 of 3)", "Healthcheck failed!: 503 (2 of 3)", "Healthcheck failed!: 503 (3 of 3)",
		}, ErrUnhealthy, 80 * time.Second},
		"answers too late": {0, true, []string{
			"Healthcheck failed!: no answer within 5 seconds (disregarded due to grace period)", "Healthcheck failed!: no answer within 5 seconds (1 of 3)",
			"Healthcheck failed!: no answer within 5 seconds (2 of 3)", "Healthcheck failed!: no answer within 5 seconds (3 of 3)",
		}, ErrUnhealthy, 95 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ask := func(ctx context.Context) (string, error) {
					if tt.hangs {
						<-ctx.Done()
						return "", ctx.Err()
					}
					if tt.healthyAfter > 0 && time.Since(start) >= tt.healthyAfter-1 {
						return "200 OK", nil
					}
					return "", errors.New("503")
				}
				var said []string
				err := await(t.Context(), check, "via x", ask, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
				if !errors.Is(err, tt.err) {
					t.Errorf("%v, want %v", err, tt.err)
				}
				if diff := cmp.Diff(tt.want, said[1:]); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
				if took := time.Since(start); took < tt.took || took > tt.took+6*time.Second {
					t.Errorf("took %v, want about %v", took, tt.took)
				}
			})
		})
	}
}

func TestAwaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := await(ctx, check, "", func(context.Context) (string, error) { return "", errors.New("no") }, func(string, ...any) {})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// The answers that Mesos takes for healthy, and those that it does not.
func TestProbes(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	for path, code := range map[string]int{"/ok": 200, "/moved": 302, "/bad": 404, "/down": 503} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/down")
			w.WriteHeader(code)
		})
	}
	mux.HandleFunc("/types", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"text/plain", "text/html"}
	})
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() { // as Docker's proxy for a container that does not listen
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	at := plain.Listener.Addr().String()
	for _, tt := range []struct {
		protocol, address, path string
		want                    bool
		text                    string
	}{
		{"MESOS_HTTP", at, "/ok", true, "200 OK"},
		{"MESOS_HTTP", at, "ok", true, "200 OK"},
		{"MESOS_HTTP", at, "/moved", true, "302 Found"},
		{"MESOS_HTTP", at, "/bad", false, "404 Not Found"},
		{"MESOS_HTTP", at, "/down", false, "503"},
		{"MESOS_HTTP", at, "/types", false, "2 Content-Type headers"},
		{"MESOS_HTTPS", secure.Listener.Addr().String(), "/ok", true, "200 OK"},
		{"MESOS_HTTPS", at, "/ok", false, "HTTP response"},
		{"TCP", at, "", true, "connected"},
		{"TCP", "127.0.0.1:1", "", false, "refused"},
		{"TCP", closing.Addr().String(), "", false, "hangs up"},
	} {
		ask, what := new(Engine).over(marathon.HealthCheck{Protocol: tt.protocol, Path: tt.path}, "", tt.address, "shown:1", new(net.Dialer).DialContext)
		saw, err := ask(t.Context())
		if (err == nil) != tt.want || !strings.Contains(fmt.Sprint(saw, err), tt.text) {
			t.Errorf("%s %s%s: %q, %v; want %t with %q", tt.protocol, tt.address, tt.path, saw, err, tt.want, tt.text)
		}
		if !strings.Contains(what, "://shown:1") {
			t.Errorf("a person is told %q", what)
		}
	}
}
