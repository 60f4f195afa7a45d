package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A connection through ssh is there when somebody has answered at its other end,
// however long ssh takes, and not before.
func TestThroughSSH(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	bin := paastatest.SSHTo(t, "none")
	path := os.Getenv("PATH")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, wrapper := range map[string]string{
		"at once": `exec "$ssh" "$@"`,
		"slow":    `sleep 3; exec "$ssh" "$@"`,
		"shared":  `exec "$ssh" -o ControlMaster=auto -o ControlPersist=30 -o ControlPath=` + t.TempDir() + `/s "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte("#!/bin/sh\nssh="+bin+"/ssh\n"+wrapper+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+path)
			through, err := Through("ssh://anywhere")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time a shared one is there
				conn, err := through(t.Context(), "tcp", silent.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				accepted, err := silent.Accept()
				if err != nil {
					t.Fatal(err)
				}
				accepted.Close()
				conn.Close()
				begun := time.Now()
				conn, err = through(t.Context(), "tcp", "127.0.0.1:1")
				var failed *sshError
				if !errors.As(err, &failed) || !strings.Contains(err.Error(), "refused") {
					t.Errorf("nobody listens: %v, %v after %s", conn, err, time.Since(begun))
				}
			}
		})
	}
	t.Setenv("PATH", bin+":"+path)
	through, err := Through("ssh://anywhere")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := through(t.Context(), "tcp", silent.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accepted.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	accepted.Close()
	if _, err := conn.Read(buf); err == nil || strings.Contains(err.Error(), "Bytes per second") {
		t.Errorf("after its end: %v", err)
	}
}
