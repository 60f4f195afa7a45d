package marathon_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/docker/marathon"
)

// Whoever changes an app runs what he likes: neither a page in a browser nor an
// account without the token may.
func TestWhoMayChangeApps(t *testing.T) {
	d := start(t, func(o *marathon.Options) { o.Token = "s3cret" })
	t.Cleanup(func() { d.call("DELETE", "/v2/apps/x", "", "Authorization", "Bearer s3cret") })
	addr := strings.TrimPrefix(d.url, "http://")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	const app, bearer, jsonType = `{"id":"/x","cmd":"true","instances":0}`, "Authorization: Bearer s3cret", "Content-Type: application/json"
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string // with Host
		want                     int
	}{
		{"reading needs no token", "GET", "/v2/apps", "", []string{"Host: " + addr}, 200},
		{"by name of the loopback", "GET", "/v2/apps", "", []string{"Host: localhost:" + port}, 200},
		{"a page whose name leads here", "GET", "/v2/apps", "", []string{"Host: evil.example:" + port}, 403},
		{"a name that begins like ours", "GET", "/v2/apps", "", []string{"Host: localhost.evil.example"}, 403},
		{"a page that listens to events", "GET", "/v2/events", "", []string{"Host: " + addr, "Accept: text/event-stream", "Origin: https://evil.example"}, 403},
		{"a page of another port reads", "GET", "/v2/apps", "", []string{"Host: " + addr, "Origin: http://127.0.0.1:1"}, 403},
		{"the page of a file", "POST", "/v2/apps", app, []string{"Host: " + addr, "Origin: null", bearer, jsonType}, 403},
		{"a page's script", "POST", "/v2/apps", app, []string{"Host: " + addr, "Origin: https://evil.example", bearer, jsonType}, 403},
		{"a page's script, by what the browser says", "DELETE", "/v2/apps/x", "", []string{"Host: " + addr, "Sec-Fetch-Site: cross-site", bearer}, 403},
		{"two origins", "POST", "/v2/apps", app, []string{"Host: " + addr, "Origin: http://" + addr, "Origin: https://evil.example", bearer, jsonType}, 403},
		{"a rebound page is its own origin", "POST", "/v2/apps", app, []string{"Host: evil.example:" + port, "Origin: http://evil.example:" + port, bearer, jsonType}, 403},
		{"without the token", "POST", "/v2/apps", app, []string{"Host: " + addr, jsonType}, 401},
		{"with a part of it", "POST", "/v2/apps", app, []string{"Host: " + addr, "Authorization: Bearer s3cre", jsonType}, 401},
		{"with an empty one", "POST", "/v2/apps", app, []string{"Host: " + addr, "Authorization: Bearer ", jsonType}, 401},
		{"delete without it", "DELETE", "/v2/apps/x", "", []string{"Host: " + addr}, 401},
		{"a task, without it", "POST", "/v2/tasks/delete", `{"ids":[]}`, []string{"Host: " + addr, jsonType}, 401},
		{"an unknown method without it", "BREW", "/v2/apps", "", []string{"Host: " + addr}, 401},
		{"no content type", "POST", "/v2/apps", app, []string{"Host: " + addr, bearer}, 415},
		{"a form", "POST", "/v2/apps", app, []string{"Host: " + addr, bearer, "Content-Type: application/x-www-form-urlencoded"}, 415},
		{"plain text", "POST", "/v2/apps", app, []string{"Host: " + addr, bearer, "Content-Type: text/plain; x=application/json"}, 415},
		{"an empty form", "POST", "/v2/apps/x/restart", "", []string{"Host: " + addr, bearer, "Content-Type: text/plain"}, 415},
		{"as it should be", "POST", "/v2/apps", app, []string{"Host: " + addr, bearer, "Content-Type: application/json; charset=utf-8"}, 201},
		{"its own page", "PUT", "/v2/apps/x", `{"instances":0}`, []string{"Host: " + addr, "Origin: http://" + addr, bearer, jsonType}, 200},
		{"as a password", "PUT", "/v2/apps/x", `{"instances":0}`, []string{"Host: " + addr, "Authorization: Basic cGFhc3RhOnMzY3JldA==", jsonType}, 200},
		{"nothing to say", "POST", "/v2/apps/x/restart", "", []string{"Host: " + addr, bearer}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%s %s HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n%s", tt.method, tt.path, strings.Join(tt.headers, "\r\n"), len(tt.body), tt.body)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("%s, want %d", resp.Status, tt.want)
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"open":    {"x\n", 0o644, "others may read"},
		"group":   {"x\n", 0o640, "others may read"},
		"empty":   {" \n", 0o600, "is empty"},
		"missing": {"", 0, "no such file"},
	} {
		file := filepath.Join(dir, name)
		if tt.mode != 0 {
			if err := os.WriteFile(file, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := marathon.ReadToken(file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
