package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
)

// fake is an agent that serves web.main.
type fake struct {
	status agent.Status
	after  int64
	wait   time.Duration // that Backends was given; 0 for none left
}

func (f *fake) Status() agent.Status { return f.status }

func (f *fake) Backends(ctx context.Context, registration string, after int64) (paasta.AgentBackends, bool) {
	f.after = after
	if deadline, ok := ctx.Deadline(); ok {
		f.wait = time.Until(deadline)
	}
	return paasta.AgentBackends{Registration: registration, Generation: 7}, registration == "web.main"
}

func get(t *testing.T, h http.Handler, method, url string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, url, nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	if json.Valid(text) && w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s is JSON and says %q", url, w.Header().Get("Content-Type"))
	}
	return w.Code, string(text)
}

func TestPages(t *testing.T) {
	t.Parallel()
	serving := agent.Status{HAProxy: agent.ProxyStatus{PID: 7}, Registrations: []agent.RegistrationStatus{{Name: "web.main"}}, Problems: map[string]string{"api.main": "no port"}}
	down := serving
	down.HAProxy.PID = 0
	for name, tt := range map[string]struct {
		status agent.Status
		method string
		url    string
		code   int
		want   string // part of the answer
	}{
		"healthy":                      {serving, "GET", "/healthz", 200, "ok\n"},
		"HAProxy is down":              {down, "GET", "/healthz", 503, "HAProxy does not run"},
		"there is nothing to serve":    {agent.Status{}, "GET", "/healthz", 200, "ok\n"},
		"status":                       {serving, "GET", "/status", 200, `"problems":{"api.main":"no port"},"registrations":[{"name":"web.main"`},
		"status has what others add":   {serving, "GET", "/status", 200, `"host":"host1"`},
		"backends":                     {serving, "GET", "/v1/backends/web.main", 200, `"registration":"web.main","generation":7`},
		"backends of another":          {serving, "GET", "/v1/backends/nobody.main", 404, `this host does not serve "nobody.main"`},
		"after is no number":           {serving, "GET", "/v1/backends/web.main?after=x", 400, "after: want a generation"},
		"wait is no duration":          {serving, "GET", "/v1/backends/web.main?wait=5", 400, "wait: want a duration"},
		"wait is over":                 {serving, "GET", "/v1/backends/web.main?wait=-5s", 400, "wait: want a duration"},
		"connections of a name":        {serving, "GET", "/v1/connections?host=localhost&port=80", 400, "host: want an IP address"},
		"connections of no port":       {serving, "GET", "/v1/connections?host=127.0.0.1", 400, "port: want 1 to 65535"},
		"connections of port 0":        {serving, "GET", "/v1/connections?host=127.0.0.1&port=0", 400, "port: want 1 to 65535"},
		"connections of port 65536":    {serving, "GET", "/v1/connections?host=127.0.0.1&port=65536", 400, "port: want 1 to 65535"},
		"a page of somebody else":      {serving, "GET", "/more", 200, "more"},
		"a page that is not there":     {serving, "GET", "/v2", 404, "not found"},
		"nothing can be changed":       {serving, "POST", "/status", 405, "Method Not Allowed"},
		"nor a registration be put in": {serving, "PUT", "/v1/backends/web.main", 405, "Method Not Allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Server{
				Agent: &fake{status: tt.status}, Extra: func() map[string]any { return map[string]any{"host": "host1"} },
				Routes: map[string]http.Handler{"GET /more": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "more") })},
			}.Handler()
			code, text := get(t, h, tt.method, tt.url)
			if code != tt.code || !strings.Contains(text, tt.want) {
				t.Errorf("%s %s: %d %s, want %d with %q", tt.method, tt.url, code, text, tt.code, tt.want)
			}
		})
	}
}

// A long poll hands on what it was asked, and is bounded.
func TestLongPoll(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]struct {
		after int64
		wait  time.Duration
	}{
		"":                  {-1, 0},
		"?after=5":          {5, 0},
		"?after=5&wait=10s": {5, 10 * time.Second},
		"?wait=10h":         {-1, longestWait},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			get(t, Server{Agent: f}.Handler(), "GET", "/v1/backends/web.main"+query)
			if f.after != want.after || f.wait != want.wait {
				t.Errorf("%q: after %d, wait %s, want %+v", query, f.after, f.wait, want)
			}
		})
	}
}

// Connections are counted while they are open, and not when they have gone.
func TestConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	h := Server{Agent: &fake{}}.Handler()
	is := func(want int) {
		t.Helper()
		var text string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			var code int
			code, text = get(t, h, "GET", fmt.Sprintf("/v1/connections?host=%s&port=%d", at.Addr(), at.Port()))
			var answer paasta.AgentConnections
			if code == http.StatusOK && json.Unmarshal([]byte(text), &answer) == nil && answer.Connections == want {
				return
			}
		}
		t.Errorf("%s, want %d connections", text, want)
	}
	is(0)
	var open []net.Conn
	for i := range 3 {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c, <-accepted)
		is(i + 1)
	}
	for _, c := range open {
		c.Close()
	}
	is(0)
}
