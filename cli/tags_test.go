package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// Many marks of one group in the same second, by a real git: none is lost, and
// no two have the same time.
func TestMarksOfTheSameSecond(t *testing.T) {
	t.Parallel()
	paastatest.Need(t, "git")
	bare := filepath.Join(t.TempDir(), "r.git")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q", "--bare", bare)
	tree := run("-C", bare, "hash-object", "-t", "tree", "-w", "/dev/null")
	commit := run("-C", bare, "commit-tree", "-m", "x", tree)

	const marks = 12
	var wg sync.WaitGroup
	for range marks {
		wg.Go(func() {
			r, err := git.Open(bare)
			if err != nil {
				t.Error(err)
				return
			}
			env, _, _ := testEnv()
			if _, err := writeTags(t.Context(), env, r, paasta.NewTagLog(nil), deployTag("everything", commit)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tags := strings.Fields(run("-C", bare, "tag"))
	if len(tags) != marks {
		t.Errorf("%d marks wrote %d tags: %v", marks, len(tags), fmt.Sprint(tags))
	}
}
