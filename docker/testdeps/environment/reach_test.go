package environment_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/testdeps/environment"
)

// An engine whose ports cannot be reached from here is a note, with what helps,
// unless that is what is done.
func TestUnreachablePorts(t *testing.T) {
	w := &world{t: t, engine: dockertest.Start(t)} // in another network
	w.buildTools()
	t.Setenv("DOCKER_HOST", w.engine.Host)
	var err error
	if w.e, err = environment.Dial(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	defer w.e.Close()
	w = w.in(t)
	w.service("web", 20010, "store: {image: 'example/tools:1', port: 80, args: [httpd, -f, -h, /]}\n")
	for _, inside := range []bool{false, true} {
		o := w.options("web")
		o.Inside = inside
		if notes := strings.Join(w.up(t, o).Notes, "\n"); strings.Contains(notes, "--in-container") == inside {
			t.Errorf("inside %t: notes are %q", inside, notes)
		}
	}
}

// Where the engine is another machine's, its published ports are reached from
// beyond it, and its containers reach nothing there.
func testCalledFromBeyond(t *testing.T, w *world) {
	w.service("users", 20011, "")
	w.service("web", 20010, "users: {service: users}\n")
	const client, here = "paasta-beyond", "192.0.2.9"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
	}
	name := client + strconv.Itoa(os.Getpid())
	ip("netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
	ip("link", "add", "beyond", "type", "veth", "peer", "name", "eth0", "netns", name)
	ip("address", "add", here+"/24", "dev", "beyond")
	ip("link", "set", "beyond", "up")
	ip("-n", name, "link", "set", "lo", "up")
	ip("-n", name, "address", "add", "192.0.2.10/24", "dev", "eth0")
	ip("-n", name, "link", "set", "eth0", "up")
	// Where bridges translate addresses as well, an answer comes from the machine's
	// own address before the gateway sees it, and then is taken for a forged one.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("0"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", w.engine.TCP(here))
	e, err := environment.Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	w.e = e
	x := w.up(t, w.options("web"))
	if len(x.Dependencies) != 1 || x.Dependencies[0].HostPort == 0 {
		t.Fatalf("dependencies are %+v", x.Dependencies)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(here), uint16(x.Dependencies[0].HostPort)).String()
	out, err := exec.Command("ip", "netns", "exec", name, "curl", "--silent", "--max-time", "10", "http://"+at+"/").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PAASTA_SERVICE=users") {
		t.Errorf("from beyond: %v: %s", err, out)
	}
	if _, out := w.inside(t, x, "nc -w 3 192.0.2.10 80 </dev/null 2>&1"); !strings.Contains(out, "unreachable") {
		t.Errorf("to beyond: %s", out)
	}
}
