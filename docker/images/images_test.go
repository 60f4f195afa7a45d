// Package images holds what "make images" builds the platform's own images
// from: Dockerfiles and the scripts that fill them. There is no code here but
// the test of what comes out.
package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// The images are built from this checkout and Debian's packages, and what is in
// them runs.
func TestImages(t *testing.T) {
	for _, program := range []string{"docker", "apt-get", "dpkg-deb"} {
		paastatest.Need(t, program)
	}
	binary := filepath.Join(t.TempDir(), "built")
	if err := os.WriteFile(binary, dockertest.Compile(t, "github.com/gopaasta/paasta/paasta/cmd/paasta"), 0o755); err != nil {
		t.Fatal(err)
	}
	engine := dockertest.Start(t)
	environment := append(os.Environ(), "DOCKER_HOST="+engine.Host, "PAASTA_BINARY="+binary)
	build := exec.Command("./build", "test")
	build.Env = environment
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	} else if strings.Contains(string(out), "DEPRECATED") {
		t.Errorf("it says\n%s", out)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("docker", append([]string{"run", "--rm", "--network=none"}, args...)...)
		cmd.Env = environment
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("docker run %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run("paasta:test", "--version"); !strings.HasPrefix(out, "paasta ") {
		t.Errorf("paasta:test --version says %q", out)
	}
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := "global\n  user haproxy\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend f\n  bind 127.0.0.1:1234\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	in := func(program string, args ...string) string {
		t.Helper()
		return run(append([]string{"--volume=" + config + ":/haproxy.cfg:ro", "--entrypoint=" + program, "paasta-agent:test"}, args...)...)
	}
	if out := in("haproxy", "-v"); !strings.HasPrefix(out, "HAProxy version 2.") && !strings.HasPrefix(out, "HAProxy version 3.") {
		t.Errorf("haproxy -v says %q", out)
	}
	in("haproxy", "-c", "-f", "/haproxy.cfg")
	in("iptables", "--version")
	in("/bin/sh", "-c", "test -s /etc/ssl/certs/ca-certificates.crt && test -d /var/lib/paasta")
	if out := in("paasta", "smartstack", "--help"); !strings.Contains(out, "HAProxy") {
		t.Errorf("paasta smartstack --help says %q", out)
	}
}
