package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// A shop is a service's repository, its soa-configs, an engine and a registry.
type shop struct {
	t      *testing.T
	dir    string
	config sysconfig.Config
	docker *dockertest.Engine
}

const registryAddress = "127.0.0.1:5000"

func newShop(t *testing.T) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{t: t, dir: dir, config: sysconfig.Config{
		Cluster: "test", DefaultLocalCluster: "test", SoaDir: dir + "/soa", DockerRegistry: registryAddress, Hostname: "laptop",
	}}
	paastatest.Need(t, "docker")
	paastatest.Need(t, "make")
	paastatest.Need(t, "git")
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"web/Makefile":            "cook-image itest: ; docker build --quiet --tag \"$(DOCKER_TAG)\" .\n.PHONY: cook-image itest\n",
		"web/Dockerfile":          "FROM scratch\nCOPY probe /probe\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nENTRYPOINT [\"/probe\"]\n",
		"web/probe":               string(dockertest.Compile(t, dockertest.Probe)),
		"web/busybox":             string(busybox),
		"soa/web/service.yaml":    "git_url: " + dir + "/web.git\n",
		"soa/web/deploy.yaml":     "pipeline: [{step: test.main}]\n",
		"soa/web/smartstack.yaml": "main: {proxy_port: 20001}\n",
		"soa/web/marathon-test.yaml": `
main: {deploy_group: test.main, mem: 64, healthcheck_interval_seconds: 1, env: {VERSION: "7"}}
deaf: {deploy_group: test.main, mem: 64, cmd: exec busybox sleep 1000, healthcheck_mode: tcp, healthcheck_grace_period_seconds: 0, healthcheck_interval_seconds: 1, healthcheck_max_consecutive_failures: 1}
greedy: {deploy_group: test.main, mem: 64, cmd: busybox tail /dev/zero, healthcheck_mode: cmd, healthcheck_cmd: "false"}
secret: {deploy_group: test.main, mem: 64, cmd: 'echo "key is $KEY"', env: {KEY: SECRET(key)}}
`,
		"soa/web/test-dependencies.yaml": "users: {service: users}\n",
		"soa/users/deploy.yaml":          "pipeline: [{step: test.main}]\nproduction_deploy_group: test.main\n",
		"soa/users/smartstack.yaml":      "main: {proxy_port: 20002}\n",
		"soa/users/marathon-test.yaml":   "main: {deploy_group: test.main, mem: 64}\n",
		"soa/web/adhoc-test.yaml":        "batch: {deploy_group: test.main, mem: 64, cmd: exit 5}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.git("init", "--quiet", "--initial-branch=main")
	s.git("init", "--quiet", "--bare", "--initial-branch=main", dir+"/web.git")
	s.git("add", ".")
	s.git("-c", "user.name=T", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "one")
	s.git("push", "--quiet", dir+"/web.git", "HEAD:main")
	s.docker = dockertest.Start(t)
	t.Setenv("DOCKER_HOST", s.docker.Host)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	s.startRegistry()
	return s
}

func (s *shop) git(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("git", append([]string{"-C", s.dir + "/web"}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// startRegistry starts Debian's docker-registry.
func (s *shop) startRegistry() {
	s.t.Helper()
	config := filepath.Join(s.t.TempDir(), "config.yaml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", s.dir+"/registry", registryAddress)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(paastatest.Need(s.t, "docker-registry"), "serve", config)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	s.until("the registry answers", func() bool {
		resp, err := http.Get("http://" + registryAddress + "/v2/")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	})
}

func (s *shop) until(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within 2 min", what)
		}
	}
}

// A said is what a command said and how it ended.
type said struct {
	code     int
	out, err string
}

func (s said) String() string { return fmt.Sprintf("exit %d\nout: %s\nerr: %s", s.code, s.out, s.err) }

func (s *shop) paasta(ctx context.Context, args ...string) said {
	s.t.Helper()
	var out, errs lockedBuffer
	s.paastaTo(ctx, &out, &errs, args)
	return said{out.code, out.String(), errs.String()}
}

func (s *shop) paastaTo(ctx context.Context, out, errs *lockedBuffer, args []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	env := &Env{
		In: strings.NewReader(""), Out: out, Err: errs, Now: time.Now, // no Version: this program is not paasta
		Getwd:  func() (string, error) { return s.dir + "/web", nil },
		Config: func() (sysconfig.Config, error) { return s.config, nil },
	}
	out.code = Main(ctx, env, args)
}

type lockedBuffer struct {
	mu   sync.Mutex
	b    strings.Builder
	code int
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// From a commit to an image in the registry to a mark, and what runs locally.
func TestImagesAndLocalRuns(t *testing.T) {
	if !paastatest.ParallelInNamespace(t) {
		return
	}
	s := newShop(t)
	want := func(got said, code int, texts ...string) {
		t.Helper()
		if got.code != code || slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(got.out+got.err, text) }) {
			t.Errorf("want exit %d and %q, got %v", code, texts, got)
		}
	}
	ctx := t.Context()
	sha := s.git("rev-parse", "HEAD")

	// What is built here runs here, as production would run it.
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--healthcheck-only"), 0,
		"make cook-image with DOCKER_TAG=paasta-local-run-web-", "Healthcheck succeeded!: 200 OK")
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "greedy"), 1, "paasta: your service was killed by the OOM killer: it may use 64 MB", "Try: more mem for greedy in marathon-test.yaml")
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "batch"), 5)
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--cmd", "echo $VERSION of $PAASTA_INSTANCE; exit 4", "-k", "-v"), 4, "7 of main\n", "docker run ", "--label=paasta_instance=main")
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "mian"), 1, `no instance "mian"`, `did you mean "main"`)
	want(s.paasta(ctx, "local-run", "-s", "web"), 2, "a shell needs a terminal")
	want(s.paasta(ctx, "local-run", "-s", "web", "-t"), 2, "--healthcheck-only needs --instance")

	// Secrets are wanted before anything is built.
	missing := s.paasta(ctx, "local-run", "-s", "web", "-i", "secret")
	want(missing, 1, "no value for the secrets of KEY=SECRET(key)", "Try: --secret NAME=VALUE")
	if strings.Contains(missing.err, "make cook-image") {
		t.Errorf("built in vain: %v", missing)
	}
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "secret", "--skip-secrets"), 0, "KEY holds a secret and is left out", "key is \n")
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "secret", "--secret", "key=hush"), 0, "key is hush\n")
	t.Setenv("key", "from the environment")
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "secret", "--secret", "key"), 0, "key is from the environment\n")

	// A dry run prints one thing: what docker would be asked.
	var argv []string
	dry := s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--dry-run", "-o", "4242")
	if err := json.Unmarshal([]byte(dry.out), &argv); err != nil || dry.err != "" || argv[0] != "docker" || !slices.Contains(argv, "--publish=4242:8888") {
		t.Errorf("%v %v", err, dry)
	}
	var object struct{ Env map[string]string }
	dry = s.paasta(ctx, "local-run", "-s", "web", "-i", "secret", "--secret", "key=hush", "--dry-run", "--json-dict")
	if err := json.Unmarshal([]byte(dry.out), &object); err != nil || object.Env["KEY"] != "SECRET(key)" || strings.Contains(dry.out, "hush") {
		t.Errorf("%v %v", err, dry)
	}

	// It serves until Ctrl-C, on a port that stays the same.
	ctx, cancel := context.WithCancel(ctx)
	var out, errs lockedBuffer
	var running sync.WaitGroup
	running.Go(func() { s.paastaTo(ctx, &out, &errs, []string{"local-run", "-s", "web", "-i", "main", "-o", "4243"}) })
	s.until("it is healthy", func() bool { return strings.Contains(errs.String(), "Your service is now running!") })
	resp, err := http.Get("http://127.0.0.1:4243/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), "MARATHON_PORT0=4243") {
		t.Errorf("it says %s", body)
	}
	want(s.paasta(t.Context(), "local-run", "-s", "web", "-i", "main", "-o", "4243"), 1, "port 4243 is in use by the container paasta_local_run_", "Try: another --port")
	cancel()
	running.Wait()
	if out.code != exitInterrupted || !strings.Contains(out.String(), "listening on") {
		t.Errorf("after Ctrl-C: %v", said{out.code, out.String(), errs.String()})
	}
	if left := s.docker.Containers("paasta.localrun"); len(left) > 0 {
		t.Errorf("%d containers are left", len(left))
	}
	ctx = t.Context()

	// Nothing is deployed, nothing is pushed.
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--pull"), 1, "nothing was marked for deployment in deploy group test.main", "Try: --build, or --sha")
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--sha", sha), 1, "there is no image "+registryAddress+"/services-web:paasta-"+sha, "Try: paasta push-to-registry -s web")
	want(s.paasta(ctx, "push-to-registry", "-s", "web"), 1, "there is no image", "Try: paasta itest")

	// A mark may ask for the image first.
	verified := []string{"mark-for-deployment", "-s", "web", "-l", "test.main", "-c", sha, "--verify-image-exists"}
	want(s.paasta(ctx, verified...), 1, "there is no image "+registryAddress+"/services-web:paasta-"+sha, "Try: paasta itest and paasta push-to-registry first")
	if tags := s.git("ls-remote", "--tags", s.dir+"/web.git"); tags != "" {
		t.Errorf("marked without an image: %s", tags)
	}
	want(s.paasta(ctx, "itest", "-s", "web"), 0, "passed: ")
	want(s.paasta(ctx, "push-to-registry", "-s", "web"), 0, "pushed: ", "Pushed")
	want(s.paasta(ctx, "push-to-registry", "-s", "web"), 0, "I'm NOT overriding the existing image")
	want(s.paasta(ctx, "push-to-registry", "-s", "web", "--force"), 0, "pushed: ")
	want(s.paasta(ctx, verified...), 0, "Marked "+sha)
	s.config.DockerRegistry = "127.0.0.1:1"
	want(s.paasta(ctx, append(verified, "--dry-run")...), 1, "ask the registry for services-web:paasta-"+sha)
	s.config.DockerRegistry = registryAddress

	// What is deployed runs here, from the registry.
	ref := registryAddress + "/services-web:paasta-" + sha
	if out, err := exec.Command("docker", "rmi", "--force", ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("docker", "image", "prune", "--all", "--force").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--pull", "-k", "--cmd", "echo $PAASTA_DOCKER_IMAGE"), 0, "services-web:paasta-"+sha+"\n", "Pull complete")

	// On another machine's engine: over ssh the port is handed through to this
	// one's loopback and none is published there; over TCP it is published.
	// An ssh that takes its time passes no service that does not listen.
	ssh, slow := paastatest.SSHTo(t, s.docker.Host), t.TempDir()
	if err := os.WriteFile(slow+"/ssh", []byte("#!/bin/sh\ncase \"$*\" in *' -W '*) sleep 3; esac\nexec "+ssh+"/ssh \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", slow+":"+os.Getenv("PATH"))
	for _, remote := range []string{"ssh://elsewhere.invalid", s.docker.TCP("127.0.0.1")} {
		t.Setenv("DOCKER_HOST", remote)
		want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--pull", "-t"), 0, "via http://127.0.0.1:", "Healthcheck succeeded!: 200 OK")
		want(s.paasta(ctx, "local-run", "-s", "web", "-i", "deaf", "--pull", "-t"), 1, "Healthcheck failed!", "(1 of 1)")
		there, leave := context.WithCancel(ctx)
		var out, errs lockedBuffer
		running.Go(func() {
			s.paastaTo(there, &out, &errs, []string{"local-run", "-s", "web", "-i", "main", "--pull", "-o", "4244"})
		})
		s.until("it is healthy over "+remote, func() bool { return strings.Contains(errs.String(), "Your service is now running!") })
		if text, err := page("http://127.0.0.1:4244/"); err != nil || !strings.Contains(text, "MARATHON_PORT0=4244") {
			t.Errorf("%s: it says %q, %v", remote, text, err)
		}
		leave()
		running.Wait()
		if left := s.docker.Containers("paasta.localrun"); len(left) > 0 || out.code != exitInterrupted {
			t.Errorf("%s: %d containers are left: %v", remote, len(left), said{out.code, out.String(), errs.String()})
		}
	}
	t.Setenv("DOCKER_HOST", s.docker.Host)

	// With what it depends on, at the production address and by name.
	users := fmt.Sprintf(`{"v1": {}, "v2": {"deployments": {"test.main": {"docker_image": "services-users:paasta-%s", "git_sha": "%s"}}, "controls": {}}}`, sha, sha)
	if err := os.WriteFile(s.dir+"/soa/users/deployments.json", []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("docker", "tag", ref, registryAddress+"/services-users:paasta-"+sha).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	together := s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--pull", "-k", "--with-deps", "--cmd",
		"busybox wget -q -O - http://169.254.255.254:20002/; busybox wget -q -O - $USERS_URL/")
	if together.code != 0 || strings.Count(together.out, `"PAASTA_SERVICE=users"`) != 2 {
		t.Errorf("with its dependencies: %v", together)
	}
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--pull", "-t", "--with-deps"), 0, "Healthcheck succeeded!: 200 OK")
	if left := s.docker.Containers(); len(left) > 0 {
		t.Errorf("%d containers are left", len(left))
	}

	// An engine that is not there.
	s.docker.Kill()
	want(s.paasta(ctx, "local-run", "-s", "web", "-i", "main", "--pull"), 1, "Try: start Docker, or say in DOCKER_HOST where the engine is")
	s.docker.Restart()
}
