package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta"
)

// InClone returns r, which then also looks into the clone that dir is part of
// when it expands a short commit id.
func (r *Remote) InClone(dir string) *Remote {
	in := *r
	in.dir = dir
	return &in
}

// Expand returns the full id of the commit that short, 4 to 40 hex digits,
// begins. It looks at the heads and tags of the repository, then into the clone
// of InClone, and then fetches the commits, without their files. It fails with
// ErrNoCommit or ErrAmbiguous. A full id is returned as it is.
func (r *Remote) Expand(ctx context.Context, short string) (string, error) {
	typed, short := short, strings.ToLower(short)
	if paasta.IsSHA(short) {
		return short, nil
	}
	if len(short) < 4 || len(short) > 40 || strings.Trim(short, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no commit id: want 4 to 40 hex digits, such as git rev-parse prints", typed)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	refs, err := r.Refs(ctx, "HEAD", "refs/")
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for _, sha := range refs {
		if strings.HasPrefix(sha, short) {
			found[sha] = true
		}
	}
	if r.dir != "" {
		for _, sha := range commits(ctx, r.dir, short) {
			found[sha] = true
		}
	}
	if len(found) == 0 {
		fetched, err := r.fetchCommits(ctx, short)
		if err != nil {
			return "", fmt.Errorf("expand %s: no branch or tag of %s is at such a commit, and its history cannot be fetched: %w", short, r.url, err)
		}
		for _, sha := range fetched {
			found[sha] = true
		}
	}
	var list []string
	for sha := range found {
		list = append(list, sha)
	}
	slices.Sort(list)
	switch len(list) {
	case 0:
		return "", fmt.Errorf("%s in %s: %w", short, r.url, ErrNoCommit)
	case 1:
		return list[0], nil
	}
	return "", fmt.Errorf("%s in %s: %w: %s", short, r.url, ErrAmbiguous, strings.Join(list, ", "))
}

// commits lists the commits in a repository on this machine that short begins.
func commits(ctx context.Context, dir, short string) []string {
	out, err := quietly(ctx, "-C", dir, "rev-parse", "--disambiguate="+short).Output()
	if err != nil {
		return nil // no git, or no repository
	}
	var list []string
	for sha := range strings.FieldsSeq(string(out)) {
		kind, err := quietly(ctx, "-C", dir, "cat-file", "-t", sha).Output()
		if err == nil && strings.TrimSpace(string(kind)) == "commit" && paasta.IsSHA(sha) {
			list = append(list, sha)
		}
	}
	return list
}

// fetchCommits fetches history without files into a repository that is thrown
// away afterwards. It needs git.
func (r *Remote) fetchCommits(ctx context.Context, short string) (list []string, err error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errors.New("git is not installed: give the full commit id")
	}
	dir, err := os.MkdirTemp("", "paasta-git-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bare := filepath.Join(dir, "r.git")
	address := r.path
	switch r.scheme {
	case "ssh":
		address = r.sshURL()
	case "http", "https":
		address = r.open().base
		if r.user != nil {
			address = r.scheme + "://" + r.user.String() + "@" + strings.TrimPrefix(address, r.scheme+"://")
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "--bare", bare},
		{"-C", bare, "fetch", "-q", "--filter=tree:0", "--no-tags", address, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"},
	} {
		if out, err := quietly(ctx, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
		}
	}
	return commits(ctx, bare, short), nil
}

// quietly is git without a prompt.
func quietly(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	if os.Getenv("GIT_SSH_COMMAND") == "" && os.Getenv("GIT_SSH") == "" {
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes -o ConnectTimeout=10")
	}
	return cmd
}
