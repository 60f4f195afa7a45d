package nerve

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func TestChecks(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/nowhere", http.StatusFound)
		case "/bad":
			http.Error(w, "no", http.StatusServiceUnavailable)
		case "/hangs":
			<-r.Context().Done()
		case "/host":
			_, _ = w.Write([]byte(r.Host + " " + r.Header.Get("X-Test")))
		default:
			_, _ = w.Write([]byte("all OK here"))
		}
	})
	plain, tls := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(tls.Close)
	closed := freePort(t)
	base := func(typ string, l net.Listener) soaconfig.LocalCheck {
		return soaconfig.LocalCheck{Type: typ, Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Status: [][2]int{{200, 399}}, Timeout: 5 * time.Second}
	}
	with := func(c soaconfig.LocalCheck, change func(*soaconfig.LocalCheck)) soaconfig.LocalCheck {
		change(&c)
		return c
	}
	web := base("http", plain.Listener)
	tests := []struct {
		name  string
		check soaconfig.LocalCheck
		want  string // part of the error, "" for a pass
	}{
		{"http", with(web, func(c *soaconfig.LocalCheck) { c.URI = "/" }), ""},
		{"https without a known certificate", with(base("https", tls.Listener), func(c *soaconfig.LocalCheck) { c.URI = "/" }), ""},
		{"a redirect is an answer", with(web, func(c *soaconfig.LocalCheck) { c.URI = "/moved" }), ""},
		{"a redirect when only 200 passes", with(web, func(c *soaconfig.LocalCheck) { c.URI, c.Status = "/moved", [][2]int{{200, 200}} }), "302 Found"},
		{"503", with(web, func(c *soaconfig.LocalCheck) { c.URI = "/bad" }), "503 Service Unavailable"},
		{"the expected text", with(web, func(c *soaconfig.LocalCheck) { c.URI, c.Expect = "/", "OK" }), ""},
		{"another text", with(web, func(c *soaconfig.LocalCheck) { c.URI, c.Expect = "/", "KO" }), `does not contain "KO"`},
		{"headers and host", with(web, func(c *soaconfig.LocalCheck) {
			c.URI, c.Expect, c.Headers = "/host", "web.test yes", map[string]string{"Host": "web.test", "X-Test": "yes"}
		}), ""},
		{"no answer", with(web, func(c *soaconfig.LocalCheck) { c.URI, c.Timeout = "/hangs", 50*time.Millisecond }), "http: no answer within 50ms"},
		{"tcp", base("tcp", plain.Listener), ""},
		{"tcp to nobody", soaconfig.LocalCheck{Type: "tcp", Host: "127.0.0.1", Port: closed, Timeout: time.Second}, "connection refused"},
		{"a command", soaconfig.LocalCheck{Type: "cmd", Cmd: "test 1 = 1", Timeout: 5 * time.Second}, ""},
		{"a command that fails says why", soaconfig.LocalCheck{Type: "cmd", Cmd: "echo disk is full >&2; exit 3", Timeout: 5 * time.Second}, "exit status 3: disk is full"},
		{"a command that hangs", soaconfig.LocalCheck{Type: "cmd", Cmd: "sleep 100 & sleep 100", Timeout: 50 * time.Millisecond}, "cmd: no answer within 50ms"},
		{"a command that leaves a child which has its output", soaconfig.LocalCheck{Type: "cmd", Cmd: "sleep 100 & exit 0", Timeout: 5 * time.Second}, ""},
		{"a command that leaves a child in a session of its own", soaconfig.LocalCheck{Type: "cmd", Cmd: "setsid sleep 5 & exit 0", Timeout: 4 * time.Second}, ""},
		{"a command that fails and leaves a child", soaconfig.LocalCheck{Type: "cmd", Cmd: "sleep 100 & echo no >&2; exit 1", Timeout: 5 * time.Second}, "cmd: exit status 1: no"},
		{"a command that never stops talking", soaconfig.LocalCheck{Type: "cmd", Cmd: "yes", Timeout: 100 * time.Millisecond}, "cmd: no answer within 100ms"},
		{"a command with much to say", soaconfig.LocalCheck{Type: "cmd", Cmd: "yes | head -c 10000000; echo end; exit 1", Timeout: 50 * time.Second}, "y y end"},
		{"a command that speaks to a terminal", soaconfig.LocalCheck{Type: "cmd", Cmd: `printf 'a\n\033[31mred\000\377\r\342\200\256'; exit 1`, Timeout: 5 * time.Second}, `exit status 1: a \x1b[31mred\x00\xff \u202e`},
		{"a command that kills itself", soaconfig.LocalCheck{Type: "cmd", Cmd: "kill -9 $$", Timeout: 5 * time.Second}, "signal: killed"},
		{"redis that speaks http", base("redis", plain.Listener), "redis: "},
		{"noop", soaconfig.LocalCheck{Type: "noop", Timeout: time.Second}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := check(t.Context(), tt.check)
			if err != nil && (len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\r\x1b\x00")) {
				t.Errorf("not fit to be shown: %q", err)
			}
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("failed: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// Whatever a command started in its process group ends with it: after it passed,
// failed, ran out of time, or the agent stopped.
func TestCommandsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cmd     string
		timeout time.Duration
	}{
		"passed":       {"exit 0", 5 * time.Second},
		"failed":       {"exit 1", 5 * time.Second},
		"out of time":  {"sleep 100", 200 * time.Millisecond},
		"stopped":      {"sleep 100", 50 * time.Second},
		"a grandchild": {"(sleep 100 & sleep 100) & exit 0", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			file := filepath.Join(t.TempDir(), "child")
			done := make(chan error, 1)
			go func() {
				done <- check(ctx, soaconfig.LocalCheck{Type: "cmd", Cmd: "sleep 100 & echo $! > " + file + "; " + tt.cmd, Timeout: tt.timeout})
			}()
			pid := ""
			paastatest.Until(t, "the child", func() bool {
				text, err := os.ReadFile(file)
				pid = strings.TrimSpace(string(text))
				return err == nil && pid != ""
			})
			if name == "stopped" {
				cancel()
			}
			<-done
			paastatest.Until(t, "the end of child "+pid, func() bool {
				text, err := os.ReadFile("/proc/" + pid + "/stat")
				return err != nil || strings.Contains(string(text), ") Z ") // nobody may have waited for it
			})
		})
	}
}

func TestRedisCheck(t *testing.T) {
	t.Parallel()
	redis := paastatest.Need(t, "redis-server")
	port := freePort(t)
	cmd := exec.Command(redis, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have gone by itself
		_ = cmd.Wait()         // killed: its exit status says so
	})
	c := soaconfig.LocalCheck{Type: "redis", Host: "127.0.0.1", Port: port, Timeout: time.Second}
	paastatest.Until(t, "redis to pass its check", func() bool { return check(t.Context(), c) == nil })
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
