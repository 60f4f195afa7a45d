package localrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// asRunner in the environment makes this test binary a local run, so that tests
// can kill it.
const asRunner = "PAASTA_TEST_LOCALRUN"

func TestMain(m *testing.M) {
	if os.Getenv(asRunner) == "" {
		os.Exit(m.Run())
	}
	r := serving()
	r.ID = "killed"
	s, err := Form(r)
	if err == nil {
		var e *Engine
		if e, err = Dial(context.Background()); err == nil {
			_, err = e.Run(context.Background(), s, Options{Out: os.Stdout, Err: os.Stderr, Say: func(f string, a ...any) { fmt.Printf(f+"\n", a...) }})
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// serving asks for the probe.
func serving() Request {
	r := request()
	r.Image, r.Port = "probe:1", 39495
	r.Instance.Volumes, r.System.Volumes = nil, nil
	r.Instance.ExtraDockerArgs = nil
	r.Instance.Env = map[string]string{"VERSION": "1"}
	r.Instance.HealthCheck = soaconfig.HealthCheck{URI: "/status", Grace: 20 * time.Second, Interval: time.Second, Timeout: time.Second, MaxFailures: 2}
	return r
}

// boxed asks for a shell command in an image with busybox.
func boxed(cmd string) Request {
	r := serving()
	r.Image, r.Namespace = "box:1", nil
	r.Instance.Cmd = &cmd
	return r
}

// A session is a local run and what it said.
type session struct {
	t      *testing.T
	engine *Engine
	ids    int
	out    *lockedText // of the latest run's service
}

type outcome struct {
	status         int
	err            error
	out, errs, say string
}

func (s *session) run(ctx context.Context, r Request, o Options) outcome {
	s.t.Helper()
	s.ids++
	r.ID = "id" + strconv.Itoa(s.ids)
	spec, err := Form(r)
	if err != nil {
		s.t.Fatal(err)
	}
	var out, errs, say lockedText
	o.Out, o.Err, s.out = &out, &errs, &out
	o.Say = func(format string, args ...any) { fmt.Fprintf(&say, format+"\n", args...) }
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	status, err := s.engine.Run(ctx, spec, o)
	return outcome{status, err, out.String(), errs.String(), say.String()}
}

func (o outcome) String() string {
	return fmt.Sprintf("status %d, %v\nout: %s\nerr: %s\nsaid: %s", o.status, o.err, o.out, o.errs, o.say)
}

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Everything that needs containers, on one engine.
func TestRun(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	docker := dockertest.Start(t)
	docker.Build("probe:1", dockertest.Probe)
	docker.BuildFiles("box:1", map[string][]byte{"busybox": busybox}, "FROM scratch", "COPY busybox /bin/busybox", "COPY busybox /bin/sh")
	t.Setenv("DOCKER_HOST", docker.Host)
	engine, err := Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	nothingLeft := func(t *testing.T) {
		t.Helper()
		if left := docker.Containers(runLabel); len(left) > 0 {
			t.Errorf("%d containers are left", len(left))
		}
	}
	each := func(name string, f func(*testing.T, *session)) {
		t.Run(name, func(t *testing.T) {
			f(t, &session{t: t, engine: engine})
			nothingLeft(t)
		})
	}

	each("serves on its port until it is told to stop", func(t *testing.T, s *session) {
		ctx, cancel := context.WithCancel(t.Context())
		var env string
		o := s.run(ctx, serving(), Options{Started: func(address string) {
			go func() {
				defer cancel()
				env = eventually(t, "http://127.0.0.1:39495/")
				eventually(t, "http://"+address+"/status") // its own address
				waitUntil(t, func() bool { return strings.Contains(s.out.String(), "listening on") })
			}()
		}})
		if !errors.Is(o.err, context.Canceled) || !strings.Contains(o.out, "listening on") {
			t.Errorf("%v", o)
		}
		for _, want := range []string{"MARATHON_PORT0=39495", "PAASTA_INSTANCE=main", "VERSION=1"} {
			if !strings.Contains(env, want) {
				t.Errorf("its environment lacks %s: %s", want, env)
			}
		}
	})
	each("is healthy, and --healthcheck-only stops it then", func(_ *testing.T, s *session) {
		o := s.run(t.Context(), serving(), Options{HealthcheckOnly: true})
		if o.status != 0 || o.err != nil || !strings.Contains(o.say, "Healthcheck succeeded!: 200 OK") || !strings.Contains(o.say, "via http://127.0.0.1:39495/status (waiting 20 seconds") {
			t.Errorf("%v", o)
		}
	})
	each("is not healthy, and its log says why", func(_ *testing.T, s *session) {
		r := boxed("echo cannot find my config; exec busybox sleep 1000")
		r.Instance.HealthCheck = soaconfig.HealthCheck{Mode: "http", Interval: time.Second, Timeout: time.Second, MaxFailures: 2}
		o := s.run(t.Context(), r, Options{HealthcheckOnly: true})
		if !errors.Is(o.err, ErrUnhealthy) || !strings.Contains(o.out, "cannot find my config") || !strings.Contains(o.say, "(2 of 2)") {
			t.Errorf("%v", o)
		}
	})
	each("is checked by a command inside", func(_ *testing.T, s *session) {
		r := boxed("echo yes > /tmp-alive; exec busybox sleep 1000")
		r.Instance.HealthCheck.Mode, r.Instance.HealthCheck.Cmd = "cmd", "busybox test -e /tmp-alive"
		if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); o.status != 0 || o.err != nil {
			t.Errorf("%v", o)
		}
		r.Instance.HealthCheck = soaconfig.HealthCheck{Mode: "cmd", Cmd: "echo dead; exit 3", Interval: time.Second, Timeout: time.Second, MaxFailures: 1}
		if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); !errors.Is(o.err, ErrUnhealthy) || !strings.Contains(o.say, "command exited with status 3 dead") {
			t.Errorf("%v", o)
		}
		// One that says more than anybody keeps is judged by its end as well.
		r.Instance.HealthCheck = soaconfig.HealthCheck{Mode: "cmd", Cmd: "busybox yes dead | busybox head -c 3000000; exit 3", Interval: time.Second, Timeout: 30 * time.Second, MaxFailures: 1}
		if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); !errors.Is(o.err, ErrUnhealthy) || !strings.Contains(o.say, "command exited with status 3 dead") {
			t.Errorf("%v", o)
		}
	})
	each("is checked by a connect, past Docker's own proxy", func(_ *testing.T, s *session) {
		r := serving()
		r.Instance.HealthCheck.Mode = "tcp"
		if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); o.status != 0 || o.err != nil || !strings.Contains(o.say, "tcp://127.0.0.1:39495") {
			t.Errorf("%v", o)
		}
		deaf := boxed("exec busybox sleep 1000")
		deaf.Instance.HealthCheck = soaconfig.HealthCheck{Mode: "tcp", Interval: time.Second, Timeout: time.Second, MaxFailures: 1}
		if o := s.run(t.Context(), deaf, Options{HealthcheckOnly: true}); !errors.Is(o.err, ErrUnhealthy) {
			t.Errorf("nobody listens: %v", o)
		}
	})
	each("ends with its own status", func(_ *testing.T, s *session) {
		if o := s.run(t.Context(), boxed("echo to out; echo to err >&2; exit 7"), Options{}); o.status != 7 || o.err != nil || o.out != "to out\n" || o.errs != "to err\n" {
			t.Errorf("%v", o)
		}
		if o := s.run(t.Context(), boxed("true"), Options{}); o.status != 0 || o.err != nil {
			t.Errorf("%v", o)
		}
		r := serving() // ends while its health is checked
		r.Image, r.Instance.Cmd = "box:1", new("echo broken; exit 9")
		if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); o.status != 9 || !strings.Contains(o.out, "broken") {
			t.Errorf("%v", o)
		}
		// Without a health check it has to stay.
		for cmd, want := range map[string]int{"echo broken; exit 9": 9, "exit 0": 1, "sleep 100": 0} {
			if o := s.run(t.Context(), boxed(cmd), Options{HealthcheckOnly: true}); o.status != want || o.err != nil || !strings.Contains(o.say, "has no health check") {
				t.Errorf("%s: %v", cmd, o)
			}
		}
	})
	each("is killed for memory", func(_ *testing.T, s *session) {
		o := s.run(t.Context(), boxed("busybox tail /dev/zero"), Options{})
		var killed *KilledError
		if !errors.As(o.err, &killed) || killed.MemMB != 64 || o.status != 137 {
			t.Errorf("%v", o)
		}
	})
	each("outlives a process of its own that is killed for memory", func(_ *testing.T, s *session) {
		for _, status := range []int{0, 3} {
			o := s.run(t.Context(), boxed(fmt.Sprintf("busybox tail /dev/zero; exit %d", status)), Options{})
			if o.status != status || o.err != nil || !strings.Contains(o.say, fmt.Sprintf("ended with status %d; one of its processes was killed at the memory limit", status)) {
				t.Errorf("%v", o)
			}
		}
	})
	each("has the volumes that are there", func(t *testing.T, s *session) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from the host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		r := boxed("busybox cat /data/f; echo x > /data/f && exit 1; exit 0")
		r.Instance.Volumes = []soaconfig.Volume{{HostPath: dir, ContainerPath: "/data", Mode: "RO"}, {HostPath: dir + "/none", ContainerPath: "/none", Mode: "RW"}}
		o := s.run(t.Context(), r, Options{})
		if o.status != 0 || o.out != "from the host\n" || !strings.Contains(o.say, "Warning: "+dir+"/none is not on this machine, so /none") {
			t.Errorf("%v", o)
		}
		if _, err := os.Stat(dir + "/none"); err == nil {
			t.Error("the engine made a directory of what is missing")
		}
	})
	each("finds its port taken", func(t *testing.T, s *session) {
		l, err := net.Listen("tcp", "127.0.0.1:39495")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var taken *PortTakenError
		if o := s.run(t.Context(), serving(), Options{FixedPort: true}); !errors.As(o.err, &taken) || taken.Port != 39495 {
			t.Errorf("%v", o)
		}
		if err := engine.CheckPort(t.Context(), 39495); !errors.As(err, &taken) {
			t.Errorf("CheckPort: %v", err)
		}
		if o := s.run(t.Context(), serving(), Options{HealthcheckOnly: true}); o.status != 0 || o.err != nil || !strings.Contains(o.say, "Port 39495 is in use; taking ") {
			t.Errorf("%v", o)
		}
	})
	each("finds the disk full", func(t *testing.T, s *session) {
		free := docker.FullDisk()
		defer free()
		var hint command.HintedError
		if o := s.run(t.Context(), serving(), Options{}); !errors.As(o.err, &hint) || !strings.Contains(o.err.Error(), "no space left on device") || !strings.Contains(hint.Hint, "docker system prune") {
			t.Errorf("%v", o)
		}
	})
	each("names the container that has its port", func(t *testing.T, s *session) {
		ctx, cancel := context.WithCancel(t.Context())
		other := &session{t: t, engine: engine, ids: 100}
		s.run(ctx, serving(), Options{Started: func(string) {
			defer cancel()
			o := other.run(t.Context(), serving(), Options{FixedPort: true})
			if o.err == nil || o.err.Error() != "port 39495 is in use by the container paasta_local_run_kim_id1" {
				t.Errorf("%v", o)
			}
		}})
	})
	each("has no image, no shell, no such network", func(t *testing.T, s *session) {
		r := serving()
		r.Image = "nobody/built:this"
		var none *NoImageError
		if o := s.run(t.Context(), r, Options{}); !errors.As(o.err, &none) || none.Image != "nobody/built:this" {
			t.Errorf("%v", o)
		}
		r = serving()
		r.Instance.Cmd = new("env")
		if o := s.run(t.Context(), r, Options{}); o.err == nil || !strings.Contains(o.err.Error(), "has no /bin/sh") {
			t.Errorf("%v", o)
		}
		r = serving()
		r.Instance.Net = "nonet"
		var hint command.HintedError
		if o := s.run(t.Context(), r, Options{}); !errors.As(o.err, &hint) || !strings.Contains(hint.Hint, "docker network create nonet") {
			t.Errorf("%v", o)
		}
	})
	each("on the host's network", func(_ *testing.T, s *session) {
		r := serving()
		r.Instance.Net, r.Instance.Args = "host", []string{"-listen", "127.0.0.1:39495"}
		if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); o.status != 0 || o.err != nil {
			t.Errorf("%v", o)
		}
	})
	each("opens a shell on a terminal", func(t *testing.T, s *session) {
		r := boxed("")
		r.Instance.Cmd, r.Shell = nil, true
		master, terminal := pseudoTerminal(t)
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
			t.Fatal(err)
		}
		before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		var shown lockedText
		go func() { _, _ = io.Copy(&shown, master) }() // until the terminal is closed
		done := make(chan outcome, 1)
		spec, err := Form(r)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			status, err := engine.Run(t.Context(), spec, Options{In: terminal, Out: terminal, Err: terminal, Say: func(string, ...any) {}})
			done <- outcome{status: status, err: err}
		}()
		waitUntil(t, func() bool { return strings.Contains(shown.String(), "#") })
		// The size comes a moment after the shell; it is asked until it is there.
		fmt.Fprint(master, "until busybox stty size | busybox grep '33 77'; do :; done; echo a''nswer; exit 6\r")
		o := <-done
		if o.status != 6 || o.err != nil {
			t.Errorf("%v", o)
		}
		waitUntil(t, func() bool {
			return strings.Contains(shown.String(), "33 77") && strings.Contains(shown.String(), "answer")
		})
		after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("the terminal is left as %+v, want %+v", after, before)
		}
	})
	each("cleans up what a killed run has left", func(t *testing.T, s *session) {
		killed := exec.Command(os.Args[0])
		killed.Env = append(os.Environ(), asRunner+"=1")
		out, err := killed.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := killed.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return len(docker.Containers(runLabel+"=killed")) == 1 })
		alive := s.run(t.Context(), boxed("true"), Options{})
		if strings.Contains(alive.say, "Removing") {
			t.Errorf("a run that lives is taken for dead: %v", alive)
		}
		if err := killed.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = killed.Wait() // killed
		if o := s.run(t.Context(), boxed("true"), Options{}); !strings.Contains(o.say, "Removing paasta_local_run_kim_killed") {
			t.Errorf("%v", o)
		}
	})
	t.Run("without an engine", func(t *testing.T) {
		docker.Kill()
		s := &session{t: t, engine: engine}
		var hint command.HintedError
		if o := s.run(t.Context(), serving(), Options{}); !errors.As(o.err, &hint) || !strings.Contains(hint.Hint, "DOCKER_HOST") {
			t.Errorf("%v", o)
		}
		docker.Restart()
	})
}

// Images are found, run and missed however the engine keeps them.
func TestImageStores(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	dockertest.OnEachStore(t, func(t *testing.T, docker *dockertest.Engine) {
		docker.Build("probe:1", dockertest.Probe)
		t.Setenv("DOCKER_HOST", docker.Host)
		engine, err := Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		id, err := exec.Command("docker", "image", "inspect", "--format", "{{.Id}}", "probe:1").Output()
		if err != nil {
			t.Fatal(err)
		}
		r := serving()
		for _, r.Image = range []string{"probe:1", strings.TrimSpace(string(id))} {
			s := &session{t: t, engine: engine}
			if o := s.run(t.Context(), r, Options{HealthcheckOnly: true}); o.status != 0 || o.err != nil {
				t.Errorf("%s: %v", r.Image, o)
			}
		}
		if out, err := exec.Command("docker", "image", "rm", "probe:1").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s := &session{t: t, engine: engine}
		var none *NoImageError
		if o := s.run(t.Context(), r, Options{}); !errors.As(o.err, &none) || none.Image != r.Image {
			t.Errorf("removed: %v", o)
		}
	})
}

// pseudoTerminal returns both ends of a terminal.
func pseudoTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// eventually gets a URL once it answers.
func eventually(t *testing.T, url string) string {
	var body string
	waitUntil(t, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		body = string(text)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return body
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("it does not come to pass")
			return
		}
	}
}
