package soaconfig

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLocalService(t *testing.T) {
	t.Parallel()
	got, problems := parseLocalService("/etc/paasta/services.d/mysql.main.yaml", []byte(`
port: 3306
labels: {role: primary}
check_interval: 0.5
checks:
- {type: tcp, timeout: 0.2}
- {type: http, port: 8080, uri: "/health?deep=1", status: "200,204-206", expect: OK, rise: 2, fall: 3}
- {type: cmd, cmd: mysqladmin ping}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ok := [][2]int{{200, 399}}
	want := LocalService{
		Name: "mysql.main", File: "/etc/paasta/services.d/mysql.main.yaml", Port: 3306,
		Registrations: []string{"mysql.main"}, Weight: 10, Labels: map[string]string{"role": "primary"},
		Advertise: []string{"region"}, CheckInterval: 500 * time.Millisecond,
		Checks: []LocalCheck{
			{Type: "tcp", Host: "127.0.0.1", Port: 3306, URI: "/status", Status: ok, Timeout: 200 * time.Millisecond, Rise: 1, Fall: 1},
			{Type: "http", Host: "127.0.0.1", Port: 8080, URI: "/health?deep=1", Status: [][2]int{{200, 200}, {204, 206}}, Expect: "OK", Timeout: time.Second, Rise: 2, Fall: 3},
			{Type: "cmd", Host: "127.0.0.1", Port: 3306, URI: "/status", Status: ok, Cmd: "mysqladmin ping", Timeout: time.Second, Rise: 1, Fall: 1},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// As with nerve, a check asks the service's own host, and server options are
// published as they are.
func TestLocalServiceOfNerve(t *testing.T) {
	t.Parallel()
	got, problems := parseLocalService("mysql.main.yaml", []byte(`
host: 10.0.0.5
port: 3306
haproxy_server_options: backup maxconn 9 cookie x
checks: [{type: tcp}, {type: http, host: 127.0.0.1}]
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if got.Checks[0].Host != "10.0.0.5" || got.Checks[1].Host != "127.0.0.1" || got.ServerOptions != "backup maxconn 9 cookie x" {
		t.Errorf("%+v", got)
	}
}

func TestLocalServiceProblems(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, text, want string }{
		{"nothing", "a.main.yaml", "", "a.main.yaml: is empty"},
		{"no object", "a.main.yaml", "- 1", "a.main.yaml:1:1: is a list, want an object"},
		{"no port", "a.main.yaml", "weight: 1", "a.main.yaml:1:1: lacks port"},
		{"no registration", "mysql.yaml", "port: 1", "mysql.yaml:1:1: lacks registrations, and the name of the file is none (SERVICE.NAMESPACE)"},
		{"a typo", "a.main.yaml", "port: 1\nwieght: 3", `a.main.yaml:2:1: wieght: unknown key (did you mean "weight"?)`},
		{"a key of tomorrow", "a.main.yaml", "port: 1\nnew: {a: 1}", "a.main.yaml:2:1: new: unknown key"},
		{"a key of tomorrow in a check", "a.main.yaml", "port: 1\nchecks:\n- {type: tcp, new: 1}", "a.main.yaml:3:15: checks.new: unknown key"},
		{"checks misspelled", "a.main.yaml", "port: 1\ncheck: []", `a.main.yaml:2:1: check: unknown key (did you mean "checks", without which nobody knows what is meant?)`},
		{"registrations misspelled", "a.main.yaml", "port: 1\nregistration: [b.main]", `a.main.yaml:2:1: registration: unknown key (did you mean "registrations", without which nobody knows what is meant?)`},
		{"a check without command", "a.main.yaml", "port: 1\nchecks:\n- type: cmd", "a.main.yaml:3:3: checks: a cmd check lacks cmd"},
		{"a key of another check", "a.main.yaml", "port: 1\nchecks:\n- type: tcp\n  uri: /x", "a.main.yaml:4:3: checks.uri: means nothing to a check of type tcp"},
	}
	for _, tt := range tests {
		s, problems := parseLocalService(tt.file, []byte(tt.text))
		if valid := s.Port > 0; valid != (len(problems.Of(Broken)) == 0) {
			t.Errorf("%s: %v is used: %t", tt.name, problems, valid)
		}
		if got := problems.Error(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzLocalService(f *testing.F) {
	f.Add([]byte("port: 3306\nchecks:\n- {type: http, status: 200}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, problems := parseLocalService("x.main.yaml", text)
		if len(problems) == 0 && (s.Port < 1 || len(s.Registrations) == 0) {
			t.Errorf("no problem, and %+v", s)
		}
		for _, p := range problems {
			if p.File == "" || p.Text == "" || strings.Contains(p.Text, "%!") {
				t.Errorf("problem without place or text: %+v", p)
			}
		}
	})
}

func parseLocalService(file string, text []byte) (LocalService, Problems) {
	return localService(parseDocument(file, text))
}
