package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// echo is a server whose connections are upgraded, and then say back what they
// are told.
func echo(t *testing.T) registry.Entry {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(conn, rw)
		}()
	}))
	t.Cleanup(srv.Close)
	return registry.Entry{Host: "127.0.0.1", Port: srv.Listener.Addr().(*net.TCPAddr).Port, Weight: 10}
}

// An upgraded connection may be silent for as long as its path, or its namespace,
// says, and no longer.
func TestTunnels(t *testing.T) {
	const short, silence = 200 * time.Millisecond, 700 * time.Millisecond
	reg := newMemory()
	h := newHost(t, reg)
	e := echo(t)
	with := func(change func(*soaconfig.Namespace)) func(*soaconfig.Namespace) {
		return func(ns *soaconfig.Namespace) {
			ns.TimeoutClient, ns.TimeoutServer = short, short
			change(ns)
		}
	}
	paths := map[string]time.Duration{"/long": time.Minute}
	h.service("none.main", with(func(*soaconfig.Namespace) {}))
	h.service("paths.main", with(func(ns *soaconfig.Namespace) { ns.EndpointTimeouts = paths }))
	h.service("all.main", with(func(ns *soaconfig.Namespace) { ns.TimeoutTunnel = time.Minute }))
	h.service("both.main", with(func(ns *soaconfig.Namespace) {
		ns.TimeoutTunnel, ns.EndpointTimeouts = time.Minute, map[string]time.Duration{"/long": 2 * short}
	}))
	h.service("tcp.main", with(func(ns *soaconfig.Namespace) {
		ns.Mode, ns.HealthcheckMode, ns.TimeoutTunnel = "tcp", "http", time.Minute
	}))
	names := []string{"none.main", "paths.main", "all.main", "both.main", "tcp.main"}
	for _, name := range names {
		reg.put(name, e)
	}
	h.start()
	for _, name := range names {
		h.up(name, e.Port)
	}
	var wait sync.WaitGroup
	for _, c := range []struct {
		name, path string
		stays      bool
	}{
		{"none.main", "/long", false},
		{"paths.main", "/other", false},
		{"paths.main", "/long/er", true},
		{"all.main", "/any", true},
		{"both.main", "/long", true},
		{"tcp.main", "/any", true},
	} {
		wait.Go(func() {
			said, err := talk(h.ports[c.name], c.path, silence)
			if (err == nil) != c.stays {
				t.Errorf("%s%s: after %s of silence %q, %v; want it to stay: %v", c.name, c.path, silence, said, err, c.stays)
			}
		})
	}
	wait.Wait()
}

// talk upgrades a connection, and says something at once and after a silence.
func talk(port int, path string, silence time.Duration) (string, error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return line, err
		}
		if line == "\r\n" {
			break
		}
	}
	var said string
	for _, word := range []string{"one\n", "two\n"} {
		if word == "two\n" {
			time.Sleep(silence) // it is what is tested
		}
		if _, err := conn.Write([]byte(word)); err != nil {
			return said, err
		}
		line, err := r.ReadString('\n')
		said += line
		if err != nil || line != word {
			return said, fmt.Errorf("heard %q after %q: %w", line, word, err)
		}
	}
	return said, nil
}

// What is meant for one user is not kept for all.
func TestCacheKeepsNothingPersonal(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	var mu sync.Mutex
	asked := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			return
		}
		mu.Lock()
		asked[r.URL.String()]++
		n := asked[r.URL.String()]
		mu.Unlock()
		for _, name := range []string{"Cache-Control", "Set-Cookie", "Expires", "Vary"} {
			for _, value := range r.URL.Query()[name] {
				w.Header().Add(name, value)
			}
		}
		fmt.Fprintf(w, "answer %d", n)
	}))
	defer srv.Close()
	entry := registry.Entry{Host: "127.0.0.1", Port: srv.Listener.Addr().(*net.TCPAddr).Port, Weight: 10}
	for _, name := range []string{"web.main", "open.main"} {
		h.service(name, func(ns *soaconfig.Namespace) {
			ns.Cache = &soaconfig.Cache{MaxAge: time.Minute, MaxObjectKB: 64, WithCookies: name == "open.main"}
		})
		reg.put(name, entry)
	}
	h.start()
	h.up("web.main", entry.Port)
	h.up("open.main", entry.Port)
	ask := func(name, query string, headers []string) string {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/?name=%s&%s", h.ports[name], name, query), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "web"
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	cookie, basic := []string{"Cookie", "session=1"}, []string{"Authorization", "Basic YTpi"}
	for i, c := range []struct {
		name, query   string
		first, second []string // headers of the requests
		kept          bool
	}{
		{"web.main", "Cache-Control=max-age%3D60", nil, nil, true},
		{"web.main", "Cache-Control=public,max-age%3D60", nil, nil, true},
		{"web.main", "Set-Cookie=a%3Db&Cache-Control=max-age%3D60", nil, nil, false},
		{"web.main", "Set-Cookie=a%3Db&Cache-Control=public,max-age%3D60", nil, nil, false},
		{"web.main", "Set-Cookie=a%3Db&Set-Cookie=c%3Dd&Cache-Control=max-age%3D60", nil, nil, false},
		{"web.main", "Cache-Control=private,max-age%3D60", nil, nil, false},
		{"web.main", "Cache-Control=max-age%3D60&Cache-Control=Private", nil, nil, false},
		{"web.main", "Cache-Control=max-age%3D60,private%3D%22X-A%22", nil, nil, false},
		{"web.main", "Cache-Control=no-store,max-age%3D60", nil, nil, false},
		{"web.main", "", nil, nil, false}, // no freshness header
		{"web.main", "Cache-Control=max-age%3D60", cookie, cookie, false},
		{"web.main", "Cache-Control=public,max-age%3D60", basic, basic, false},
		{"web.main", "Cache-Control=max-age%3D60", cookie, nil, false}, // kept from one user for nobody
		{"web.main", "Cache-Control=max-age%3D60", nil, cookie, false}, // nor is it given to one
		{"open.main", "Cache-Control=max-age%3D60", cookie, cookie, true},
		{"open.main", "Cache-Control=public,max-age%3D60", basic, basic, false}, // HAProxy itself keeps none of these
		{"open.main", "Set-Cookie=a%3Db&Cache-Control=max-age%3D60", nil, nil, false},
		{"open.main", "Set-Cookie=a%3Db&Cache-Control=max-age%3D60", cookie, cookie, false},
		{"open.main", "Cache-Control=private,max-age%3D60", cookie, cookie, false},
	} {
		query := fmt.Sprintf("n=%d&%s", i, c.query)
		if first := ask(c.name, query, c.first); first != "answer 1" {
			t.Errorf("%s %s: first %q", c.name, query, first)
		}
		if second := ask(c.name, query, c.second); (second == "answer 1") != c.kept {
			t.Errorf("%s %s with %q, then %q: %q; want it kept: %v", c.name, query, c.first, c.second, second, c.kept)
		}
	}
}

// HAProxy's own page is for those who mean this host.
func TestStatsPageChecksHost(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.options.Global.Names = []string{"host1", "host1.example.com"}
	h.service("web.main", nil)
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	for host, want := range map[string]int{
		"127.0.0.1:3212": 200, "localhost": 200, "LocalHost:3212": 200, "[::1]:3212": 200, "host1": 200, "host1.example.com:3212": 200, "Host1.": 200,
		"evil.example.com": 403, "host1.example.org": 403, "localhost.evil.com": 403, "127.0.0.1.evil.com": 403, "host1xexample.com": 403,
	} {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/;csv", h.options.Global.StatsListen), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %q: %s, want %d", host, resp.Status, want)
		}
	}
}
