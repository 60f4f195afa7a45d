package smartstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
)

var then = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

// Each file of testdata/status holds what a person sees of a state, by name.
func TestStatusForPeople(t *testing.T) {
	t.Parallel()
	usual := func() agentStatus {
		up := map[string]int{"up": 2}
		return agentStatus{ZooKeeper: new(true), Status: agent.Status{
			Problems: map[string]string{},
			HAProxy: agent.ProxyStatus{
				PID: 20, Processes: []int{20}, DynamicServers: true, Reloads: 1,
				LastReload: then.Add(-time.Minute), LastReloadTook: "122ms", LastReloadWhy: "no HAProxy runs",
			},
			Registrations: []agent.RegistrationStatus{
				{Name: "db.files", Confirmed: true, AgeSeconds: 3.2, States: up},
				{Name: "web.main", Port: 20001, Confirmed: true, AgeSeconds: 61, States: up},
			},
		}}
	}
	for name, tt := range map[string]struct {
		change  func(s *agentStatus)
		healthy bool
	}{
		"usual": {func(*agentStatus) {}, true},
		"nothing": {func(s *agentStatus) {
			s.Registrations, s.HAProxy, s.ZooKeeper = nil, agent.ProxyStatus{}, nil
		}, true},
		"noted": {func(s *agentStatus) {
			s.HAProxy.Processes, s.HAProxy.DynamicServers, s.HAProxy.ReloadWanted = []int{20, 18, 7}, false, []string{"web.main changed"}
			r := &s.Registrations[1]
			r.Bad = map[string]string{"/smartstack/global/web.main/b": "entry has no port", "/smartstack/global/web.main/a": "entry is empty"}
			r.Ignored = map[string]int{"check port 8081": 2, "cookie a": 1}
			r.States = map[string]int{"up": 2, "elsewhere": 3}
			r.Hosts = map[string]agent.HostStatus{"db1": {Addr: "10.0.0.1", Error: "no such host"}, "db2": {Addr: "10.0.0.2"}, "db3": {Error: "timeout"}}
		}, true},
		"wrong": {func(s *agentStatus) {
			s.ZooKeeper, s.HAProxy.ReloadError = new(false), "cannot bind to 127.0.0.1:20001"
			s.Problems["api.main"] = "proxy_port 20001 belongs to web.main"
			s.Problems["db.files"] = "nothing is registered: looked at /smartstack/global/db.files"
			s.Registrations[0].Nothing, s.Registrations[0].States = s.Problems["db.files"], nil
			r := &s.Registrations[1]
			r.States = map[string]int{"down": 1, "probing": 1, "drain": 1, "maint": 1}
			r.Confirmed, r.Error, r.Held, r.HeldSince, r.Why = false, "read web.main: context deadline exceeded", 2, then, "the registry has no entries any more"
		}, false},
		"held for a while": {func(s *agentStatus) {
			r := &s.Registrations[1]
			r.Held, r.HeldSince, r.HeldUntil, r.Why = 3, then.Add(-4*time.Second), then.Add(6*time.Second), "6 of 10 servers would go within 10s; 3 stay for now"
		}, false},
		"elsewhere": {func(s *agentStatus) {
			s.Problems["web.main"] = "nothing is registered: looked at /smartstack/global/web.main"
			s.Registrations[1].Nothing, s.Registrations[1].States = s.Problems["web.main"], nil
			s.Registrations[0].States = map[string]int{"elsewhere": 3}
		}, true},
		"dead": {func(s *agentStatus) { s.HAProxy = agent.ProxyStatus{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := usual()
			tt.change(&s)
			var b bytes.Buffer
			err := printStatus(&b, s, then)
			if (err == nil) != tt.healthy || err != nil && !errors.Is(err, command.ErrNotHealthy) {
				t.Errorf("%v, want healthy %v", err, tt.healthy)
			}
			file := filepath.Join("testdata", "status", name+".txt")
			if *updateDocs {
				write(t, file, b.String())
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// The command reads what an agent answers.
func TestStatusCommand(t *testing.T) {
	t.Parallel()
	s := agent.Status{Problems: map[string]string{"api.main": "proxy_port 20001 belongs to web.main"}, HAProxy: agent.ProxyStatus{PID: 20, DynamicServers: true}, Registrations: []agent.RegistrationStatus{
		{Name: "web.main", Port: 20001, Version: 7, Applied: 7, Confirmed: true, States: map[string]int{"up": 1}, Bad: map[string]string{"/x": "entry is empty"}},
	}}
	answer := func(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) }
	mux := http.NewServeMux()
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, s) })
	mux.HandleFunc("/v1/backends/web.main", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, paasta.AgentBackends{Registration: "web.main", Backends: []paasta.AgentBackend{{Name: "a_10.0.0.1:80", Status: "UP", Up: true, Weight: 10, Since: time.Now().Add(-time.Hour), LastCheck: "L7OK/200 in 1ms"}}})
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	gone := httptest.NewServer(mux)
	gone.Close()
	for name, tt := range map[string]struct {
		args   string
		server *httptest.Server
		want   string // parts of what is printed, and of the error
	}{
		"all":                    {"", server, "web.main      20001  1|api.main: proxy_port 20001 belongs to web.main|web.main: left out /x: entry is empty|not healthy"},
		"all as JSON":            {"--json", server, `"name": "web.main"|<nil>`},
		"one":                    {"web.main", server, "version 7 of the registry, read 0s ago; HAProxy has 7|a_10.0.0.1:80  UP      10      0         1h0m0s ago  L7OK/200 in 1ms|left out /x|<nil>"},
		"one as JSON":            {"web.main --json", server, `"status": "UP"|<nil>`},
		"one that is not served": {"api.main", server, "api.main is not served: proxy_port 20001 belongs to web.main"},
		"one that is not there":  {"nobody.main", server, `this host does not serve "nobody.main"`},
		"two":                    {"web.main api.main", server, "want one REGISTRATION"},
		"no agent":               {"", gone, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := statusCommand(Wiring{Config: func() (c sysconfig.Config, _ error) {
				c.Smartstack.Listen = strings.TrimPrefix(tt.server.URL, "http://")
				return c, nil
			}})
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			cmd.Flags(flags)
			if err := flags.Parse(strings.Fields(tt.args)); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			err := cmd.Run(context.Background(), command.IO{Out: &b, Err: &b}, flags.Args())
			got := fmt.Sprint(b.String(), err)
			for want := range strings.SplitSeq(tt.want, "|") {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}
