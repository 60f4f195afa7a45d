package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// TestTestDependenciesHowTo does what docs/how-to/test-dependencies.md says,
// word for word, and looks whether anything is left.
func TestTestDependenciesHowTo(t *testing.T) {
	if !paastatest.ParallelInNamespace(t) {
		return
	}
	for _, program := range []string{"docker", "git", "make", "redis-server", "bash"} {
		paastatest.Need(t, program)
	}
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source + "/docs/how-to/test-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	for _, b := range blocks {
		script.WriteString(b[1])
	}
	if len(blocks) < 7 {
		t.Fatalf("only %d blocks of commands", len(blocks))
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X main.version=test", "-o", bin+"/paasta", "../paasta/cmd/paasta")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build paasta: %v\n%s", err, out)
	}
	engine := dockertest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-x")
	cmd.Dir, cmd.Stdin = source, strings.NewReader(script.String())
	cmd.WaitDelay = 5 * time.Second
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PAASTA_") && !strings.HasPrefix(kv, "DOCKER_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "DOCKER_HOST="+engine.Host, "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the how-to: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), "welcome: passed"); n < 3 {
		t.Errorf("welcome passed %d times, want 3 or more:\n%s", n, out)
	}
	for _, left := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q", "--filter", "type=custom"}, {"volume", "ls", "-q"}} {
		cmd := exec.Command("docker", left...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+engine.Host)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("docker %s: %s %v", strings.Join(left, " "), out, err)
		}
	}
}
