package playground

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Everything that a playground needs is named when it is missing, with the
// package that has it, and "make deps" sees to it.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	programs, packages := missing()
	for _, n := range needed {
		if n.program != zooKeeperJar && !slices.Contains(programs, n.program) {
			t.Errorf("%s is not said to be missing: %v", n.program, programs)
		}
	}
	if slices.Contains(packages, "docker-cli") || !slices.Contains(packages, "docker.io") {
		t.Errorf("without an engine the packages are %v", packages)
	}
	dockerd := filepath.Join(os.Getenv("PATH"), "dockerd")
	if err := os.WriteFile(dockerd, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, packages = missing(); !slices.Contains(packages, "docker-cli") {
		t.Errorf("with an engine and no client the packages are %v", packages)
	}
}

func TestDepsSeesToWhatIsMissing(t *testing.T) {
	out, err := exec.Command("../../../.ci/deps", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(out))
	for _, n := range needed {
		if !slices.Contains(list, n.program) {
			t.Errorf("make deps does not see to %s", n.program)
		}
	}
}
