package environment_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

const (
	sha      = "1234567890123456789012345678901234567890"
	probe    = "services-probe:paasta-" + sha
	shell    = "services-shell:paasta-" + sha
	registry = "127.0.0.1:1" // nobody listens there: all images are on the engine
)

// The ports that the engine publishes at: few enough to take them all.
const firstPort, numPorts = 61000, 64

// diskSize is small enough to be filled.
const diskSize = "256m"

// A world is an engine with images, and soa-configs.
type world struct {
	t      testing.TB
	engine *dockertest.Engine
	e      *environment.Engine
	soa    string
	dir    string // the repository of whatever is tested
}

func newWorld(t *testing.T) *world {
	t.Helper()
	const ports = "/proc/sys/net/ipv4/ip_local_port_range" // of this namespace
	all, err := os.ReadFile(ports)
	if err != nil {
		t.Fatal(err)
	}
	// The engine reads once from which ports it may choose: at its start, or, from
	// Docker 28 on, when it first has to.
	if err := os.WriteFile(ports, fmt.Appendf(nil, "%d %d", firstPort, firstPort+numPorts-1), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, engine: dockertest.StartOn(t, diskSize)}
	t.Setenv("DOCKER_HOST", w.engine.Host)
	w.buildTools()
	if out, err := exec.Command("docker", "run", "--rm", "--publish", "127.0.0.1::80", "example/tools:1", "true").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(ports, all, 0o644); err != nil {
		t.Fatal(err)
	}
	w.engine.Build(registry+"/"+probe, dockertest.Probe)
	w.e, err = environment.Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.e.Close() })
	return w
}

// buildTools makes the image of what is no service.
func (w *world) buildTools() {
	w.t.Helper()
	busybox, err := os.ReadFile(paastatest.Need(w.t, "busybox"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, image := range []string{"example/tools:1", registry + "/" + shell} {
		w.engine.BuildFiles(image, map[string][]byte{"busybox": busybox},
			"FROM scratch", "COPY busybox /bin/busybox", `RUN ["/bin/busybox", "--install", "/bin"]`, "ENV PATH=/bin", `CMD ["sleep", "1000"]`)
	}
}

// in is the world with new soa-configs and an empty repository.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	return &world{t: t, engine: w.engine, e: w.e, soa: t.TempDir(), dir: t.TempDir()}
}

// copy is the world with a copy of its soa-configs and an empty repository.
func (w *world) copy(t *testing.T) *world {
	t.Helper()
	c := w.in(t)
	if err := os.CopyFS(c.soa, os.DirFS(w.soa)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEnvironments is everything that needs an engine, on one.
func TestEnvironments(t *testing.T) {
	if os.Getenv("TEST_DEPS_SOA") != "" {
		beKilled(t)
		return
	}
	if !paastatest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"up", testUp},
		{"declarations", testDeclarations},
		{"failures", testFailures},
		{"disk is full", testFullDisk},
		{"ports are taken", testPortsTaken},
		{"one name", testOneName},
		{"some at once", testAtOnce},
		{"never reaches the host", testNeverReachesTheHost},
		{"called from beyond", testCalledFromBeyond},
		{"killed", testKilled}, // the engine, too: last
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, w.in(t)) })
		nothingLeft(t, w)
	}
}

// nothingLeft sees that the engine has nothing of any environment.
func nothingLeft(t *testing.T, w *world) {
	t.Helper()
	if left := w.engine.Containers(); len(left) != 0 {
		t.Errorf("containers left: %v", left)
	}
	for _, list := range [][]string{{"network", "ls", "-q", "-f", "label=paasta.test-deps"}, {"volume", "ls", "-q"}} {
		if out, err := exec.Command("docker", list...).CombinedOutput(); err != nil || len(out) != 0 {
			t.Errorf("docker %s: left are %s, %v", list[0], out, err)
		}
	}
}

// service writes the soa-configs of a service that runs the probe.
func (w *world) service(name string, port int, deps string, more ...string) {
	w.t.Helper()
	w.write(name+"/deploy.yaml", "pipeline: [{step: test.main}]\nproduction_deploy_group: test.main\n")
	w.write(name+"/marathon-test.yaml", "main:\n  deploy_group: test.main\n  cpus: .1\n  mem: 64\n"+strings.Join(more, ""))
	w.write(name+"/smartstack.yaml", fmt.Sprintf("main:\n  proxy_port: %d\n  mode: http\n", port))
	w.write(name+"/deployments.json", fmt.Sprintf(`{"v1": {}, "v2": {"deployments": {"test.main": {"docker_image": %q, "git_sha": %q}}, "controls": {}}}`, probe, sha))
	if deps != "" {
		w.write(name+"/test-dependencies.yaml", deps)
	}
}

func (w *world) write(path, text string) {
	w.t.Helper()
	file := filepath.Join(w.soa, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) options(service string) environment.Options {
	return environment.Options{SoaDir: w.soa, Service: service, Dir: w.dir, System: sysconfig.Config{DockerRegistry: registry}, Tied: true}
}

// up makes an environment that is removed after the test.
func (w *world) up(t *testing.T, o environment.Options) *environment.Environment {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	x, err := w.e.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.down(t, x) })
	return x
}

func (w *world) down(t testing.TB, x *environment.Environment) {
	t.Helper()
	if err := x.Down(context.Background()); err != nil {
		t.Error(err)
	}
}

// inside runs a shell command in a container of the environment.
func (w *world) inside(t testing.TB, x *environment.Environment, script string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var text syncBuffer
	code, err := x.Run(ctx, environment.Command{Image: "example/tools:1", Args: []string{"sh", "-c", script}, Out: &text, Err: &text})
	if err != nil {
		t.Fatal(err)
	}
	return code, text.String()
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
