package environment_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// On a host that runs a real HAProxy at 169.254.255.254, and real tasks at the
// addresses of its agents, which containers of other networks do reach, a test
// never does: not a declared dependency, not one that is not declared, and not
// when the gateway is gone.
func testNeverReachesTheHost(t *testing.T, w *world) {
	haproxy := paastatest.Need(t, "haproxy")
	w.service("users", 20011, "")
	w.service("quotes", 20013, "")
	w.service("web", 20010, "users: {service: users}\n")
	for _, address := range []string{"169.254.255.254/32", "10.77.1.1/32"} {
		if out, err := exec.Command("ip", "addr", "add", address, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "addr", "del", address, "dev", "lo").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	dir := t.TempDir()
	config := "defaults\n  mode http\n  timeout client 5s\n  timeout connect 5s\n  timeout server 5s\n" +
		"frontend all\n  bind 169.254.255.254:20011\n  bind 169.254.255.254:20013\n  bind 169.254.255.254:20099\n  bind 10.77.1.1:31000\n  http-request return status 200 content-type text/plain string \"the real one\"\n"
	if err := os.WriteFile(filepath.Join(dir, "cfg"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(haproxy, "-db", "-f", filepath.Join(dir, "cfg"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	paastatest.Until(t, "HAProxy answers", func() bool {
		resp, err := http.Get("http://169.254.255.254:20013/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	// That is what makes the rest worth something.
	for _, url := range []string{"http://169.254.255.254:20013/", "http://10.77.1.1:31000/"} {
		// The engine sometimes loses what a container says that ends at once.
		paastatest.Until(t, "a plain container reaches "+url, func() bool {
			plain, _ := exec.Command("docker", "run", "--rm", "example/tools:1", "wget", "-qO-", url).CombinedOutput()
			return strings.Contains(string(plain), "the real one")
		})
	}

	x := w.up(t, w.options("web"))
	ask := "for p in 20011 20013 20099; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 169.254.255.254 $p || echo port $p is refused; done; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 10.77.1.1 31000 || echo the task is refused; "
	_, out := w.inside(t, x, ask)
	if strings.Contains(out, "the real one") {
		t.Errorf("a test reached the host's HAProxy:\n%s", out)
	}
	for _, want := range []string{"PAASTA_SERVICE=users", "the port of quotes.main", "port 20099 is refused", "the task is refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	// Nor does a dependency.
	for _, d := range x.Dependencies {
		if out, err := exec.Command("docker", "run", "--rm", "--network=container:"+d.Container, "example/tools:1", "sh", "-c", ask).CombinedOutput(); strings.Contains(string(out), "the real one") {
			t.Errorf("%s reached the host: %v\n%s", d.Name, err, out)
		}
	}
	if out, err := exec.Command("docker", "kill", "paasta-test-deps-"+x.Name+"-_gateway").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, out := w.inside(t, x, ask); strings.Contains(out, "the real one") || strings.Contains(out, "PAASTA_SERVICE") {
		t.Errorf("without a gateway, something answers:\n%s", out)
	}
}

// Environments of one service at once, on one engine: each sees its own. The
// benchmark has ten.
func testAtOnce(t *testing.T, w *world) { w.atOnce(t, 3) }

func (w *world) atOnce(t testing.TB, many int) (took time.Duration) {
	t.Helper()
	w.service("users", 20011, "")
	w.service("web", 20010, "users: {service: users, env: {VERSION: one}}\nstore: {image: 'example/tools:1', port: 80, args: [httpd, -f, -h, /data], volumes: [/data], ready: {tcp: true}}\n")
	all := make([]*environment.Environment, many)
	began := time.Now()
	var coming sync.WaitGroup
	for n := range many {
		coming.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			x, err := w.e.Up(ctx, w.options("web"))
			if err != nil {
				t.Error(err)
				return
			}
			all[n] = x
		})
	}
	coming.Wait()
	took = time.Since(began)
	var going sync.WaitGroup
	defer going.Wait()
	for n, x := range all {
		if x == nil {
			continue
		}
		defer going.Go(func() { w.down(t, x) })
		for _, d := range x.Dependencies {
			if d.Name == "store" {
				if out, err := exec.Command("docker", "exec", d.Container, "sh", "-c", fmt.Sprintf("echo -n %d > /data/n", n)).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			}
		}
	}
	if t.Failed() {
		return took
	}
	seen := map[string]*environment.Environment{}
	for n, x := range all {
		for _, own := range append(x.Variables(), x.Subnet) {
			if other := seen[own]; other != nil && strings.ContainsAny(own, "/") {
				t.Errorf("%s and %s share %s", other.Name, x.Name, own)
			}
			seen[own] = x
		}
		script := "wget -qO- http://$STORE_HOST/n; "
		for _, other := range all {
			if other != x {
				script += "nc -w 1 " + strings.Replace(other.Subnet, ".0/24", ".10", 1) + " 8888 </dev/null 2>/dev/null && echo reached " + other.Name + " & "
			}
		}
		if _, out := w.inside(t, x, script+"wait"); out != fmt.Sprint(n) {
			t.Errorf("in environment %d, %s, the store is that of %q", n, x.Name, out)
		}
	}
	return took
}

// Two commands that want one name in the same moment: one gets it.
func testOneName(t *testing.T, w *world) {
	w.service("users", 20011, "")
	w.service("web", 20010, "users: {service: users}\n")
	o := w.options("web")
	o.Name = "ci"
	for range 3 {
		var all [2]*environment.Environment
		var errs [2]error
		var coming sync.WaitGroup
		for n := range all {
			coming.Go(func() { all[n], errs[n] = w.e.Up(t.Context(), o) })
		}
		coming.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("of two, want one: %v and %v", errs[0], errs[1])
		}
		x, err := cmp.Or(all[0], all[1]), cmp.Or(errs[0], errs[1])
		if !strings.Contains(err.Error(), "there is an environment called ci") {
			t.Errorf("the other is told: %v", err)
		}
		if found, err := w.e.List(t.Context(), environment.Selection{Name: "ci"}); err != nil || len(found) != 1 || !found[0].Ready() || len(found[0].Dependencies) != 1 {
			t.Errorf("found %+v, %v", found, err)
		}
		w.down(t, x)
	}
}

// Whatever is killed, a later command finds and removes what it left.
func testKilled(t *testing.T, w *world) {
	w.service("users", 20011, "")
	w.service("slow", 20012, "", "  env: {DELAY: 1h}\n")
	w.service("web", 20010, "users: {service: users}\n")
	w.service("half", 20014, "users: {service: users}\nslow: {service: slow}\n")
	for _, service := range []string{"web", "half"} {
		t.Run("the command of "+service, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestEnvironments$")
			cmd.Env = append(os.Environ(), "TEST_DEPS_SOA="+w.soa, "TEST_DEPS_SERVICE="+service, "TMPDIR="+t.TempDir()) // it cannot clean up
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// web is whole when it is killed, half never is.
			wanted := map[string]int{"web": 2, "half": 3}[service]
			paastatest.Until(t, "its containers run", func() bool { return len(running(t)) == wanted })
			if did, err := w.e.Sweep(t.Context()); err != nil || len(did) != 0 {
				t.Errorf("while it lives, Sweep removes %v, %v", did, err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			// The next up removes what it left, also when it wants its name.
			x := w.up(t, w.named("web"))
			if len(x.Notes) != 1 || !strings.Contains(x.Notes[0], "has ended") {
				t.Errorf("notes are %q", x.Notes)
			}
			w.down(t, x)
			nothingLeft(t, w)
		})
	}
	t.Run("the engine", func(t *testing.T) {
		x := w.up(t, w.options("web"))
		w.engine.Kill()
		if err := x.Down(t.Context()); err == nil {
			t.Error("Down without an engine is no error")
		}
		w.engine.Restart()
		all, err := w.e.List(t.Context(), environment.Selection{})
		if err != nil || len(all) != 1 {
			t.Fatalf("found %v, %v", all, err)
		}
		if err := all[0].Down(t.Context()); err != nil {
			t.Error(err)
		}
		nothingLeft(t, w)
	})
	t.Run("the engine while something comes up", func(t *testing.T) {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestEnvironments$")
		cmd.Env = append(os.Environ(), "TEST_DEPS_SOA="+w.soa, "TEST_DEPS_SERVICE=half", "TMPDIR="+t.TempDir())
		var said syncBuffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		paastatest.Until(t, "its containers run", func() bool { return len(running(t)) == 3 })
		w.engine.Kill()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if text := said.String(); err == nil || !strings.Contains(text, "Cannot connect to the Docker daemon") {
				t.Errorf("it ends with %v and says %s", err, text)
			}
		case <-time.After(time.Minute):
			t.Error("it goes on without an engine")
			_ = cmd.Process.Kill()
			<-ended
		}
		w.engine.Restart()
		x := w.up(t, w.options("web"))
		if len(x.Notes) != 1 || !strings.Contains(x.Notes[0], "has ended") {
			t.Errorf("notes are %q", x.Notes)
		}
		w.down(t, x)
		nothingLeft(t, w)
	})
	t.Run("by age", func(t *testing.T) {
		o := w.options("web")
		o.Tied, o.Keep = false, time.Nanosecond
		w.up(t, o)
		if did, err := w.e.Sweep(t.Context()); err != nil || len(did) != 1 || !strings.Contains(did[0], "its time is over") {
			t.Errorf("Sweep did %q, %v", did, err)
		}
		nothingLeft(t, w)
	})
}

// named gives the environment of web a name that is always the same.
func (w *world) named(service string) environment.Options {
	o := w.options(service)
	if service == "web" {
		o.Name = "ci"
	}
	return o
}

// beKilled is the command that is killed.
func beKilled(t *testing.T) {
	e, err := environment.Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	w := world{t: t, soa: os.Getenv("TEST_DEPS_SOA"), dir: t.TempDir()}
	if _, err := e.Up(t.Context(), w.named(os.Getenv("TEST_DEPS_SERVICE"))); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done()
}

func running(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("docker", "ps", "-q").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
