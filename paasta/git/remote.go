// Package git lists and writes the tags of a remote repository, without a
// clone. It runs git; what git cannot do, to create tags without the commits
// that they point at, it does with go-git's encoding of git's protocol.
//
// Remotes are a path, file://, ssh://, user@host:path, http:// or https://.
package git

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// Errors that callers branch on.
var (
	// ErrUnreachable: no answer from the git server, or one that is not git's.
	ErrUnreachable = errors.New("git server does not answer")
	// ErrRefused: it answers, and does not let us: no such repository, no
	// permission, or a hook that says no. Trying again does not help.
	ErrRefused = errors.New("git server refuses")
	// ErrExists: somebody else wrote a tag of that name; read again, and take a
	// later time.
	ErrExists = errors.New("tag exists already")
	// ErrNoCommit: the repository has no such commit.
	ErrNoCommit = errors.New("no such commit in the repository")
	// ErrAmbiguous: a short commit id could be several commits.
	ErrAmbiguous = errors.New("short commit id is ambiguous")
)

// defaultTimeout bounds each call whose context has no deadline.
const defaultTimeout = 60 * time.Second

// A Remote is a repository elsewhere. It holds no connection.
type Remote struct {
	url     string // as given, without a password: for messages
	address string // for git
	scheme  string // file, ssh, http, https
	user    *url.Userinfo
	host    string // with port, for http; without, for ssh
	port    string // for ssh
	path    string
	dir     string // where to look for a clone, see Expand
}

// Open reads the address of a repository. It does not connect.
func Open(address string) (*Remote, error) {
	r := &Remote{url: address, address: strings.TrimPrefix(address, "git+")}
	scheme, _, ok := strings.Cut(address, "://")
	switch {
	case address == "":
		return nil, errors.New("no git url: set git_url in service.yaml, or give --git-url")
	case strings.HasPrefix(address, "-"), control(address):
		return nil, fmt.Errorf("git url %q begins with a dash or holds control characters", address)
	case ok:
		u, err := url.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("git url: %w", err)
		}
		r.url = u.Redacted()
		r.scheme, r.user, r.path = strings.TrimPrefix(scheme, "git+"), u.User, u.Path
		switch r.scheme {
		case "http", "https":
			r.host = u.Host
		case "ssh":
			r.host, r.port = u.Hostname(), u.Port()
			if strings.HasPrefix(r.path, "/~") {
				r.path = r.path[1:]
			}
		case "file":
			if u.Host != "" && u.Host != "localhost" {
				return nil, fmt.Errorf("git url %s: a file is on no other host", r.url)
			}
		default:
			return nil, fmt.Errorf("git url %s: %s:// is not supported (known: a path, file, ssh, http, https)", r.url, scheme)
		}
	default:
		// user@host:path, unless a slash comes before the colon.
		before, path, ok := strings.Cut(address, ":")
		if !ok || strings.Contains(before, "/") {
			absolute, err := filepath.Abs(address)
			if err != nil {
				return nil, fmt.Errorf("git url %s: %w", address, err)
			}
			r.scheme, r.path, r.address = "file", absolute, absolute
			break
		}
		r.scheme, r.host, r.path = "ssh", before, path
		if user, host, ok := strings.Cut(before, "@"); ok {
			r.user, r.host = url.User(user), host
		}
	}
	if r.path == "" || strings.HasPrefix(r.path, ":") || r.scheme != "file" && r.host == "" {
		return nil, fmt.Errorf("git url %s: want a host and a path", r.url)
	}
	for what, part := range map[string]string{"user": r.user.Username(), "host": r.host, "path": r.path} {
		if strings.HasPrefix(part, "-") || control(part) {
			return nil, fmt.Errorf("git url %q: its %s begins with a dash or holds control characters, which ssh and git would take for an option", r.url, what)
		}
	}
	return r, nil
}

// control tells whether a part of an address, decoded, holds control
// characters, such as the line end that would give git's credential helpers
// another host.
func control(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// String returns the address without a password.
func (r *Remote) String() string { return r.url }

// Tags lists the tags of ours. Those that only look like ours are left out.
func (r *Remote) Tags(ctx context.Context) ([]paasta.Tag, error) {
	refs, err := r.Refs(ctx, paasta.TagRefPrefix)
	if err != nil {
		return nil, err
	}
	var tags []paasta.Tag
	for ref, sha := range refs {
		if t, err := paasta.ParseTag(ref, sha); err == nil {
			tags = append(tags, t)
		}
	}
	return tags, nil
}

// Refs lists the refs that begin with one of the prefixes and the commits that
// they point at; for an annotated tag the commit behind it.
func (r *Remote) Refs(ctx context.Context, prefixes ...string) (map[string]string, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	refs, err := r.list(ctx, prefixes)
	if err != nil {
		return nil, r.failed(ctx, "list refs of", err)
	}
	return refs, nil
}

func (r *Remote) list(ctx context.Context, prefixes []string) (map[string]string, error) {
	args := []string{"ls-remote", "--quiet", remoteName}
	if !slices.ContainsFunc(prefixes, func(p string) bool { return !strings.HasPrefix(p, "refs/tags/") }) {
		args = []string{"ls-remote", "--quiet", "--tags", remoteName} // the server sends no others
	}
	out, err := r.git(ctx, args...)
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		sha, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || !paasta.IsSHA(sha) {
			return nil, fmt.Errorf("%w: %.80q is no ref", ErrUnreachable, line)
		}
		name = strings.TrimSuffix(name, "^{}") // the commit behind a tag comes after the tag
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			refs[name] = sha
		}
	}
	if len(refs) == 0 && (r.scheme == "http" || r.scheme == "https") {
		// Git takes a page that is not its protocol for a repository without refs.
		said, err := r.open().advertisement(ctx, "git-upload-pack")
		if err != nil {
			return nil, err
		}
		return refs, said.Close()
	}
	return refs, nil
}

// Push writes tags on commits that the repository has already: it sends names,
// and no objects. Either all are written or none. A tag that is there already is
// ErrExists, whatever it points at; a commit that is not is ErrNoCommit.
func (r *Remote) Push(ctx context.Context, tags ...paasta.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	for _, t := range tags {
		if err := t.Check(); err != nil {
			return fmt.Errorf("tag %s: %w", r.url, err)
		}
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	push := r.pushProgram
	if r.scheme == "http" || r.scheme == "https" {
		push = r.pushHTTP
	}
	err := push(ctx, tags)
	if errors.Is(err, ErrRefused) && !errors.Is(err, ErrExists) && r.hasOne(ctx, tags) {
		// Servers other than git have their own words for it.
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	if err != nil {
		return r.failed(ctx, "tag", err)
	}
	return nil
}

// hasOne tells whether one of the tags is there.
func (r *Remote) hasOne(ctx context.Context, tags []paasta.Tag) bool {
	refs := make([]string, len(tags))
	for i, t := range tags {
		refs[i] = t.Ref()
	}
	there, err := r.list(ctx, refs)
	return err == nil && slices.ContainsFunc(refs, func(ref string) bool { return there[ref] != "" })
}

func (r *Remote) failed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnreachable) {
		err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return fmt.Errorf("%s %s: %w", doing, r.url, err)
}

func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}
