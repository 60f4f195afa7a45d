package git_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/git"
)

// BenchmarkTag is what a deploy costs at the git server: read the tags of a
// repository that has 1,000, and write one more.
func BenchmarkTag(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "r.git")
	do := func(stdin string, args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	do("", "init", "-q", "--bare", "-b", "main", dir)
	do("commit refs/heads/main\ncommitter a <a@b> 1 +0000\ndata 0\n\n", "-C", dir, "fast-import", "--quiet")
	sha := do("", "-C", dir, "rev-parse", "main")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	next := func() paasta.Tag {
		at = at.Add(time.Second)
		return paasta.Tag{Target: "prod.main", Time: at, Kind: paasta.TagDeploy, SHA: sha}
	}
	var updates strings.Builder
	for range 1000 {
		updates.WriteString("create " + next().Ref() + " " + sha + "\n")
	}
	do(updates.String(), "-C", dir, "update-ref", "--stdin")
	r, err := git.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.Tags(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := r.Push(b.Context(), next()); err != nil {
			b.Fatal(err)
		}
	}
}
