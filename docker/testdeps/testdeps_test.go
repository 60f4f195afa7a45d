package testdeps_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/testdeps"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

func TestStart(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	dockertest.OnEachStore(t, testStart)
}

func testStart(t *testing.T, engine *dockertest.Engine) {
	const sha = "1234567890123456789012345678901234567890"
	engine.Build("127.0.0.1:1/services-users:paasta-"+sha, dockertest.Probe)
	soa := t.TempDir()
	for file, text := range map[string]string{
		"users/marathon-test.yaml":   "main: {deploy_group: test.main, mem: 64}\n",
		"users/smartstack.yaml":      "main: {proxy_port: 20001}\n",
		"users/deploy.yaml":          "pipeline: [{step: test.main}]\nproduction_deploy_group: test.main\n",
		"users/deployments.json":     fmt.Sprintf(`{"v1": {}, "v2": {"deployments": {"test.main": {"docker_image": "", "git_sha": %q}}, "controls": {}}}`, sha),
		"web/test-dependencies.yaml": "the-users: {service: users}\n",
	} {
		path := filepath.Join(soa, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_HOST", engine.Host)
	t.Setenv("PAASTA_SYSTEM_CONFIG_DIR", t.TempDir())
	t.Setenv("PAASTA_SOA_DIR", soa)
	t.Setenv("PAASTA_DOCKER_REGISTRY", "127.0.0.1:1")
	t.Run("a test of web", func(t *testing.T) {
		deps := testdeps.Start(t, "web")
		resp, err := http.Get(deps.URL("the-users") + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(text), "PAASTA_SERVICE=users") {
			t.Errorf("it answers %s, %v", text, err)
		}
		if want := "THE_USERS_URL=http://" + deps.Address("the-users"); !strings.Contains(strings.Join(deps.Variables(), "\n"), want) {
			t.Errorf("variables are %q, want %s", deps.Variables(), want)
		}
		if log := deps.Logs("the-users", 10); !strings.Contains(log, "listening on") {
			t.Errorf("its log is %q", log)
		}
	})
	if left := engine.Containers(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
