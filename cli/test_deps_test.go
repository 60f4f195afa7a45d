package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

func TestTestDeps(t *testing.T) {
	if !paastatest.ParallelInNamespace(t) {
		return
	}
	const sha = "1234567890123456789012345678901234567890"
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	engine := dockertest.Start(t)
	engine.Build("127.0.0.1:1/services-users:paasta-"+sha, dockertest.Probe)
	engine.BuildFiles("web-dev", map[string][]byte{"sh": busybox}, "FROM scratch", "COPY sh /bin/sh")
	t.Setenv("DOCKER_HOST", engine.Host)
	t.Setenv("DOCKER_TAG", "web-dev")
	t.Setenv("PAASTA_TEST_DEPS", "")
	dir := t.TempDir()
	for file, text := range map[string]string{
		"soa/users/marathon-test.yaml":    "main: {deploy_group: test.main, mem: 64}\n",
		"soa/users/deploy.yaml":           "pipeline: [{step: test.main}]\nproduction_deploy_group: test.main\n",
		"soa/users/smartstack.yaml":       "main: {proxy_port: 20001}\n",
		"soa/quotes/smartstack.yaml":      "main: {proxy_port: 20002}\n",
		"soa/users/deployments.json":      fmt.Sprintf(`{"v1": {}, "v2": {"deployments": {"test.main": {"docker_image": "", "git_sha": %q}}, "controls": {}}}`, sha),
		"soa/web/test-dependencies.yaml":  "users: {service: users}\n",
		"soa/lost/test-dependencies.yaml": "it: {service: elsewere}\n",
		"web/.keep":                       "",
		"elsewhere/.keep":                 "",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := func(ctx context.Context, where string, args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		env := &Env{
			In: strings.NewReader(""), Out: &o, Err: &e, Now: time.Now,
			Getwd: func() (string, error) { return filepath.Join(dir, where), nil },
			Config: func() (sysconfig.Config, error) {
				return sysconfig.Config{SoaDir: dir + "/soa", DockerRegistry: "127.0.0.1:1"}, nil
			},
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		code = Main(ctx, env, append([]string{"test-deps"}, args...))
		return code, o.String(), e.String()
	}
	nothingLeft := func(t *testing.T) {
		t.Helper()
		if left := engine.Containers(); len(left) != 0 {
			t.Errorf("containers left: %v", left)
		}
	}

	t.Run("run on the host", func(t *testing.T) {
		code, out, errs := in(t.Context(), "web", "run", "-e", "MORE=7", "--", "sh", "-c", "echo $USERS_HOST $MORE; test -n \"$USERS_PORT\" && exit 5")
		if code != 5 || out != "127.0.0.1 7\n" {
			t.Errorf("exit code %d, output %q, errors %q", code, out, errs)
		}
		nothingLeft(t)
	})
	t.Run("run in a container, and call what is not declared", func(t *testing.T) {
		code, out, errs := in(t.Context(), "web", "run", "--in-container", "--", "/bin/sh", "-c",
			"wget -qO- http://169.254.255.254:20001/status && echo well; wget -qO- http://169.254.255.254:20002/ || exit 6")
		if code != 6 || out != "well\n" || !strings.Contains(errs, "paasta: warning: web called 169.254.255.254:20002, the port of quotes.main, which "+dir+"/soa/web/test-dependencies.yaml does not declare") {
			t.Errorf("exit code %d, output %q, errors %q", code, out, errs)
		}
		if !strings.Contains(errs, "users: ready after") {
			t.Errorf("no line says that users is ready: %q", errs)
		}
		nothingLeft(t)
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		mark := filepath.Join(t.TempDir(), "mark")
		go func() {
			for ctx.Err() == nil {
				if _, err := os.Stat(mark); err == nil {
					cancel()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		code, _, errs := in(ctx, "web", "run", "--", "sh", "-c", "touch "+mark+"; exec sleep 60")
		if code != 130 || !strings.Contains(errs, "interrupted") {
			t.Errorf("exit code %d, errors %q", code, errs)
		}
		nothingLeft(t)
	})
	t.Run("called wrongly", func(t *testing.T) {
		for args, want := range map[string]string{
			"run":                   "no command given",
			"down --all --name x":   "use one of --service, --name and --all",
			"up -s nobody":          `no service "nobody"`,
			"status --name nothing": "there is no environment called nothing",
			"up --name a/b":         `an environment cannot be called "a/b"`,
			"up --env-file /no/x":   "--env-file /no/x: stat /no: no such file",
			"run -- /no/such":       "run /no/such: ",
			"up -s lost":            "there is no service elsewere in " + dir + "/soa",
			"logs":                  "0 environments to choose from: none",
		} {
			if code, _, errs := in(t.Context(), "web", strings.Fields(args)...); code == 0 || !strings.Contains(errs, want) {
				t.Errorf("%s: exit code %d, %q, want %q", args, code, errs, want)
			}
		}
	})
	t.Run("a session", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "env")
		code, out, errs := in(t.Context(), "web", "up", "--name", "mine", "--env-file", file)
		text, err := os.ReadFile(file)
		if code != 0 || err != nil || string(text) != out || !strings.Contains(out, "USERS_URL=http://127.0.0.1:") {
			t.Errorf("up: exit code %d, output %q, file %q, %v, errors %q", code, out, text, err, errs)
		}
		if code, _, errs := in(t.Context(), "web", "up", "--name", "mine"); code != 1 || !strings.Contains(errs, "there is an environment called mine") {
			t.Errorf("up once more: exit code %d, errors %q", code, errs)
		}
		if code, out, _ := in(t.Context(), "elsewhere", "status"); code != 0 || out != "" {
			t.Errorf("status elsewhere: exit code %d, output %q", code, out)
		}
		code, out, errs = in(t.Context(), "web", "status", "--json")
		var list []struct {
			Name, Service string
			Ready         bool
			Variables     map[string]string
		}
		if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil || len(list) != 1 || list[0].Name != "mine" || !list[0].Ready || list[0].Variables["USERS_HOST"] != "127.0.0.1" {
			t.Errorf("status --json: exit code %d, %v, output %s, errors %q", code, err, out, errs)
		}
		if code, out, errs := in(t.Context(), "elsewhere", "logs", "--name", "mine", "users"); code != 0 || !strings.Contains(out, "listening on") {
			t.Errorf("logs: exit code %d, output %q, errors %q", code, out, errs)
		}
		if code, _, errs := in(t.Context(), "web", "logs", "nobody"); code != 1 || !strings.Contains(errs, `mine has no dependency "nobody" (known: users, _gateway)`) {
			t.Errorf("logs nobody: exit code %d, errors %q", code, errs)
		}
		for _, id := range engine.Containers("paasta.test-deps.dependency=users") {
			if out, err := exec.Command("docker", "kill", id).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		if code, out, _ := in(t.Context(), "web", "status"); code != 3 || !strings.Contains(out, "mine\tusers\tExited") {
			t.Errorf("status of what is broken: exit code %d, output %q", code, out)
		}
		if code, out, errs := in(t.Context(), "elsewhere", "down", "--all"); code != 0 || out != "mine\n" {
			t.Errorf("down: exit code %d, output %q, errors %q", code, out, errs)
		}
		nothingLeft(t)
	})
	// The engine's ports cannot be reached at its name.
	t.Run("by ssh", func(t *testing.T) {
		t.Setenv("PATH", paastatest.SSHTo(t, engine.Host)+":"+os.Getenv("PATH"))
		t.Setenv("DOCKER_HOST", "ssh://root@engine.invalid")
		code, out, errs := in(t.Context(), "web", "run", "--", "busybox", "sh", "-c", "echo $USERS_HOST; busybox wget -qO- $USERS_URL/ | grep -o PAASTA_SERVICE=users")
		if code != 0 || out != "127.0.0.1\nPAASTA_SERVICE=users\n" || strings.Contains(errs, "cannot be reached") {
			t.Errorf("run: exit code %d, output %q, errors %q", code, out, errs)
		}
		nothingLeft(t)
		code, out, errs = in(t.Context(), "web", "up")
		if code != 0 || !strings.Contains(out, "USERS_HOST=engine.invalid\n") || !strings.Contains(errs, "paasta test-deps run hands them through to this machine") {
			t.Errorf("up: exit code %d, output %q, errors %q", code, out, errs)
		}
		if code, _, errs := in(t.Context(), "web", "down"); code != 0 {
			t.Errorf("down: exit code %d, errors %q", code, errs)
		}
		nothingLeft(t)
	})
	t.Run("no engine", func(t *testing.T) {
		t.Setenv("DOCKER_HOST", "unix://"+dir+"/none.sock")
		if code, _, errs := in(t.Context(), "web", "up"); code != 1 || !strings.Contains(errs, "the Docker engine does not answer") || !strings.Contains(errs, "Try: start Docker") {
			t.Errorf("exit code %d, errors %q", code, errs)
		}
	})
}
