package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/command"
)

func TestEngine(t *testing.T) {
	for host, want := range map[string]string{
		"unix:///run/docker.sock": "",
		"tcp://10.0.0.1:2376":     "",
		"ssh://root@agent1":       "",
		"ssh://agent1:2222":       "",
		"ssh://":                  "want ssh://[USER@]HOST[:PORT]",
		"ssh://-oProxyCommand=x":  "want ssh://",
		"ssh://agent1/path":       "want ssh://",
		"nonsense":                "nonsense",
	} {
		for _, way := range []string{"argument", "environment"} {
			t.Setenv("DOCKER_HOST", "")
			given := host
			if way == "environment" {
				t.Setenv("DOCKER_HOST", host)
				given = ""
			}
			c, err := New(given)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s by %s: %v, want %q", host, way, err, want)
			}
			if err == nil {
				c.Close()
			}
		}
	}
}

func TestWhere(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	for host, want := range map[string]string{"unix:///run/docker.sock": "127.0.0.1", "tcp://10.0.0.1:2376": "10.0.0.1", "ssh://root@agent1:2222": "agent1"} {
		c, err := New(host)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Host(); got != want {
			t.Errorf("ports of %s are at %s, want %s", host, got, want)
		}
		if c.Local() != strings.HasPrefix(host, "unix") {
			t.Errorf("%s: local %t", host, c.Local())
		}
		c.Close()
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	if Explain(nil) != nil {
		t.Error("nil became something")
	}
	for _, tt := range []struct {
		err  error
		hint string // "" for none
	}{
		{errors.New("no such image"), ""},
		{&net.OpError{Op: "dial", Net: "unix", Err: errors.New("no such file")}, "DOCKER_HOST"},
		{fmt.Errorf("inspect: %w", fs.ErrPermission), "sudo"},
		{fmt.Errorf("ping: %w", &sshError{"Docker", "agent1", "Permission denied (publickey)."}), "ssh by hand"},
	} {
		var hinted command.HintedError
		if got := Explain(tt.err); errors.As(got, &hinted) != (tt.hint != "") || !strings.Contains(hinted.Hint, tt.hint) || got.Error() != tt.err.Error() {
			t.Errorf("%v: hint %q, want %q", tt.err, hinted.Hint, tt.hint)
		}
	}
	// The engine that is not there, by Docker's own client.
	c, err := New("unix:///nowhere/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Ping(t.Context())
	if _, ok := errors.AsType[command.HintedError](Explain(err)); !ok {
		t.Errorf("%v has no hint", err)
	}
}
