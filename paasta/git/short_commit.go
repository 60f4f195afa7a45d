package git

import (
	"context"
	"fmt"
	"maps"
	"os"
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
		for _, sha := range r.commits(ctx, r.dir, short) {
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
	switch list := slices.Sorted(maps.Keys(found)); len(list) {
	case 0:
		return "", fmt.Errorf("%s in %s: %w", short, r.url, ErrNoCommit)
	case 1:
		return list[0], nil
	default:
		return "", fmt.Errorf("%s in %s: %w: %s", short, r.url, ErrAmbiguous, strings.Join(list, ", "))
	}
}

// commits lists the commits in a repository on this machine that short begins.
func (r *Remote) commits(ctx context.Context, dir, short string) []string {
	out, err := r.git(ctx, "-C", dir, "rev-parse", "--disambiguate="+short)
	if err != nil {
		return nil // no repository
	}
	var list []string
	for sha := range strings.FieldsSeq(out) {
		kind, err := r.git(ctx, "-C", dir, "cat-file", "-t", sha)
		if err == nil && strings.TrimSpace(kind) == "commit" && paasta.IsSHA(sha) {
			list = append(list, sha)
		}
	}
	return list
}

// fetchCommits fetches history without files into a repository that is thrown
// away afterwards.
func (r *Remote) fetchCommits(ctx context.Context, short string) ([]string, error) {
	dir, err := os.MkdirTemp("", "paasta-git-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := r.git(ctx, "init", "-q", "--bare", dir); err != nil {
		return nil, err
	}
	if _, err := r.git(ctx, "-C", dir, "fetch", "-q", "--filter=tree:0", "--no-tags", remoteName, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"); err != nil {
		return nil, err
	}
	return r.commits(ctx, dir, short), nil
}
