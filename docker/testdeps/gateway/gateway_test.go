//go:build linux

package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newGateway is one on loopback: "web" calls from everywhere.
func newGateway(t *testing.T, out io.Writer, routes map[int]Route) *gateway {
	t.Helper()
	return &gateway{
		c: Config{
			Otherwise: "nobody",
			Clients:   map[string]Client{"nobody": {Name: "web", Declares: "web/test-dependencies.yaml", Routes: routes}},
			Ports:     map[int]Port{20001: {"users.main", true}, 20002: {"quotes.main", true}, 20003: {"store.main", false}},
		},
		out: out, refused: map[[2]string]*Refused{}, listening: map[int]bool{},
	}
}

// serve listens as if on a proxy port, and returns where.
func serve(t *testing.T, g *gateway, port int) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.accept(ctx, l, port) })
	t.Cleanup(func() {
		cancel()
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func ask(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPassesOnAndTakesTurns(t *testing.T) {
	t.Parallel()
	var targets []string
	for n := range 2 {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, n)
		}))
		t.Cleanup(srv.Close)
		targets = append(targets, srv.Listener.Addr().String())
	}
	at := serve(t, newGateway(t, io.Discard, map[int]Route{20001: {"users", targets}}), 20001)
	seen := map[string]int{}
	for range 4 {
		_, text := ask(t, at)
		seen[text]++
	}
	if seen["0"] != 2 || seen["1"] != 2 {
		t.Errorf("the targets were asked %v times", seen)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	var out lines
	dead := "127.0.0.1:1"
	g := newGateway(t, &out, map[int]Route{20001: {"users", []string{dead}}})
	for range 2 {
		code, text := ask(t, serve(t, g, 20002))
		want := "paasta test-deps: web called 169.254.255.254:20002, the port of quotes.main, which web/test-dependencies.yaml does not declare\n"
		if code != 503 || text != want {
			t.Errorf("%d %q, want 503 %q", code, text, want)
		}
	}
	if code, text := ask(t, serve(t, g, 20001)); code != 503 || !strings.Contains(text, "users, which web called at 169.254.255.254:20001, does not answer") {
		t.Errorf("%d %q", code, text)
	}
	conn, err := net.Dial("tcp4", serve(t, g, 20003))
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	// It may come before Dial has returned.
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection of a TCP namespace ends with %v, want a reset", err)
	}
	got := g.list()
	if len(got) != 2 || got[0].Namespace != "quotes.main" || got[0].Count != 2 || got[1].Namespace != "store.main" {
		t.Errorf("refused are %+v", got)
	}
	if n := strings.Count(out.String(), "quotes.main"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, out.String())
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	well := httptest.NewServer(http.NotFoundHandler())
	defer well.Close()
	at := well.Listener.Addr().String()
	g := newGateway(t, io.Discard, nil)
	g.c.Checks = map[string]Check{"tcp": {Address: at}, "http": {Address: at, Path: "/status"}, "dead": {Address: "127.0.0.1:1"}}
	questions, ask := io.Pipe()
	answers, out := io.Pipe()
	defer ask.Close()
	go g.answer(t.Context(), questions, out)
	in := bufio.NewScanner(answers)
	for dependency, why := range map[string]string{"tcp": "", "http": "GET /status answers 404 Not Found", "dead": "connection refused", "": ""} {
		text, err := json.Marshal(Question{ID: 7, Ready: dependency, Within: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(ask, "no question\n%s\n", text); err != nil {
			t.Fatal(err)
		}
		var a Answer
		if !in.Scan() || json.Unmarshal(in.Bytes(), &a) != nil || a.ID != 7 || !strings.Contains(a.Why, why) || why == "" && a.Why != "" {
			t.Errorf("%q: answer is %q, want %q", dependency, in.Bytes(), why)
		}
	}
}

func FuzzParseSYN(f *testing.F) {
	f.Add([]byte("E\x00\x00<\x00\x00@\x00@\x06\x00\x00\xc6\x12\x01\x0a\xa9\xfe\xff\xfe\x80\x00\x4e\x21\x00\x00\x00\x00\x00\x00\x00\x00\xa0\x02\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		from, port, ok := parseSYN(packet)
		if ok && (len(from) != 4 || port < 0 || port > 65535) {
			t.Errorf("from %v to port %d", from, port)
		}
	})
}

func TestParseSYN(t *testing.T) {
	t.Parallel()
	packet := []byte("E\x00\x00<\x00\x00@\x00@\x06\x00\x00\xc6\x12\x01\x0a\xa9\xfe\xff\xfe\x80\x00\x4e\x21\x00\x00\x00\x00\x00\x00\x00\x00\xa0\x02\x00\x00\x00\x00\x00\x00")
	if from, port, ok := parseSYN(packet); !ok || from.String() != "198.18.1.10" || port != 20001 {
		t.Errorf("parseSYN says %v, %d, %v", from, port, ok)
	}
	packet[33] = 0x12 // with ACK, an answer
	if _, _, ok := parseSYN(packet); ok {
		t.Error("an answer counts as a call")
	}
}
