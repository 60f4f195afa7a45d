package paastatest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What Need says of a missing program, that make deps installs it, is true.
func TestDepsInstallsWhatTestsNeed(t *testing.T) {
	t.Parallel()
	const root = "../.."
	out, err := exec.Command(root+"/.ci/deps", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	there := append(strings.Fields(string(out)), "apt-get", "dpkg-deb") // these every Debian has
	need := regexp.MustCompile(`paastatest\.Need\([a-z.]+, "([^"]+)"`)
	found := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range need.FindAllSubmatch(text, -1) {
			found++
			if program := string(match[1]); !slices.Contains(there, program) {
				t.Errorf("%s needs %s, to which .ci/deps does not see", path, program)
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Errorf("%d uses found, %v", found, err)
	}
}
