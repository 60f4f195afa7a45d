package environment_test

import (
	"context"
	"fmt"
	"os"
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
	registry = "127.0.0.1:1" // nobody listens there: all images are on the engine
)

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
	w := &world{t: t, engine: dockertest.Start(t), soa: t.TempDir(), dir: t.TempDir()}
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	w.engine.BuildFiles("example/tools:1", map[string][]byte{"busybox": busybox},
		"FROM scratch", "COPY busybox /bin/busybox", `RUN ["/bin/busybox", "--install", "/bin"]`, "ENV PATH=/bin", `CMD ["sleep", "1000"]`)
	w.engine.Build(registry+"/"+probe, dockertest.Probe)
	t.Setenv("DOCKER_HOST", w.engine.Host)
	w.e, err = environment.Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.e.Close() })
	return w
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

func (w *world) down(t *testing.T, x *environment.Environment) {
	t.Helper()
	if err := x.Down(context.Background()); err != nil {
		t.Error(err)
	}
}

// inside runs a shell command in a container of the environment.
func (w *world) inside(t *testing.T, x *environment.Environment, script string) (code int, out string) {
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
