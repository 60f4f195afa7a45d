package git_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// run runs git and returns what it prints.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository makes a bare repository with two commits and returns its path and
// their ids, the older first.
func repository(t *testing.T) (bare, first, second string) {
	t.Helper()
	paastatest.Need(t, "git")
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	bare, work := filepath.Join(root, "it's a repo.git"), filepath.Join(root, "work")
	run(t, root, "init", "-q", "--bare", "-b", "main", bare)
	run(t, root, "init", "-q", "-b", "main", work)
	run(t, work, "commit", "-q", "--allow-empty", "-m", "one")
	first = run(t, work, "rev-parse", "HEAD")
	run(t, work, "commit", "-q", "--allow-empty", "-m", "two")
	second = run(t, work, "rev-parse", "HEAD")
	run(t, work, "tag", "-a", "-m", "annotated", "v1", first)
	run(t, work, "push", "-q", bare, "main", "v1")
	run(t, bare, "config", "http.receivepack", "true")
	return bare, first, second
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func tag(second int, target string, kind paasta.TagKind, sha string) paasta.Tag {
	return paasta.Tag{Target: target, Time: time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC), Kind: kind, SHA: sha}
}

func open(t *testing.T, address string) *git.Remote {
	t.Helper()
	r, err := git.Open(address)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// works holds one way to a repository to what Remote promises.
func works(t *testing.T, r *git.Remote, bare, first, second string) {
	t.Helper()
	ctx := bounded(t)
	if tags, err := r.Tags(ctx); err != nil || len(tags) != 0 {
		t.Fatalf("at first: %v, %v", tags, err)
	}
	want := []paasta.Tag{tag(1, "a.b-c", paasta.TagDeploy, first), tag(2, "c.main", paasta.TagStop, first)}
	if err := r.Push(ctx, want...); err != nil {
		t.Fatal(err)
	}
	// What git itself makes of them.
	if got := run(t, bare, "rev-parse", "refs/tags/paasta-a.b-c-20260101T000001-deploy"); got != first {
		t.Errorf("git says %s, want %s", got, first)
	}
	run(t, bare, "tag", "paasta-not-one-of-ours", first)
	got, err := r.Tags(ctx)
	if err != nil {
		t.Fatal(err)
	}
	less := func(a, b paasta.Tag) bool { return a.Ref() < b.Ref() }
	if diff := cmp.Diff(want, sorted(got, less)); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}

	moved := want[0]
	moved.SHA = second
	another := tag(3, "x", paasta.TagDeploy, second)
	if err := r.Push(ctx, another, moved); !errors.Is(err, git.ErrExists) {
		t.Errorf("a tag that exists: %v", err)
	}
	if err := r.Push(ctx, tag(4, "x", paasta.TagDeploy, strings.Repeat("ab", 20))); !errors.Is(err, git.ErrNoCommit) {
		t.Errorf("a commit that does not exist: %v", err)
	}
	if got, err := r.Tags(ctx); err != nil || len(got) != 2 {
		t.Errorf("afterwards: %v, %v", got, err)
	}
	// At once: one is first, and the others hear that the tag exists.
	errs := make([]error, 12)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() { errs[n] = r.Push(ctx, tag(5, "x", paasta.TagDeploy, []string{first, second}[n%2])) })
	}
	wg.Wait()
	written := 0
	for _, err := range errs {
		if err == nil {
			written++
		} else if !errors.Is(err, git.ErrExists) {
			t.Errorf("a tag that another push writes: %v", err)
		}
	}
	if written != 1 {
		t.Errorf("one tag was written by %d pushes at once, want 1", written)
	}
	refs, err := r.Refs(ctx, "refs/heads/", "refs/tags/v")
	if diff := cmp.Diff(map[string]string{"refs/heads/main": second, "refs/tags/v1": first}, refs); err != nil || diff != "" {
		t.Errorf("refs: %v\n%s", err, diff)
	}

	// A head, and a commit that only history has.
	for _, sha := range []string{first, second} {
		if got, err := r.Expand(ctx, sha[:10]); err != nil || got != sha {
			t.Errorf("expand %s: %s, %v", sha[:10], got, err)
		}
	}
	if _, err := r.Expand(ctx, "0000000000"); !errors.Is(err, git.ErrNoCommit) {
		t.Errorf("expand what is not there: %v", err)
	}
}

func sorted(tags []paasta.Tag, less func(a, b paasta.Tag) bool) []paasta.Tag {
	for i := range tags {
		for j := i; j > 0 && less(tags[j], tags[j-1]); j-- {
			tags[j], tags[j-1] = tags[j-1], tags[j]
		}
	}
	return tags
}

func TestPath(t *testing.T) {
	t.Parallel()
	bare, first, second := repository(t)
	works(t, open(t, bare), bare, first, second)
}

func TestFileURL(t *testing.T) {
	t.Parallel()
	bare, first, second := repository(t)
	works(t, open(t, "file://"+strings.ReplaceAll(bare, " ", "%20")), bare, first, second)
}

// Without git on the machine the error says so.
func TestWithoutGit(t *testing.T) {
	bare, _, _ := repository(t)
	t.Setenv("PATH", t.TempDir())
	if _, err := open(t, bare).Tags(bounded(t)); err == nil || !strings.Contains(err.Error(), "install git") {
		t.Errorf("got %v", err)
	}
}

// serveHTTP is git's own http-backend, behind a password if there is one.
func serveHTTP(t *testing.T, root, password string) string {
	t.Helper()
	execPath := run(t, root, "--exec-path")
	backend := &cgi.Handler{
		Path: filepath.Join(execPath, "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=someone", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, got, _ := r.BasicAuth(); got != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if version := r.Header.Get("Git-Protocol"); version != "" {
			handler := *backend
			handler.Env = append(slices.Clip(handler.Env), "GIT_PROTOCOL="+version)
			handler.ServeHTTP(w, r)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	bare, first, second := repository(t)
	address := serveHTTP(t, filepath.Dir(bare), "") + "/" + strings.ReplaceAll(filepath.Base(bare), " ", "%20")
	works(t, open(t, address), bare, first, second)
}

func TestHTTPWithPassword(t *testing.T) {
	t.Parallel()
	bare, first, second := repository(t)
	address := serveHTTP(t, filepath.Dir(bare), "secret") + "/" + strings.ReplaceAll(filepath.Base(bare), " ", "%20")
	if _, err := open(t, address).Tags(bounded(t)); !errors.Is(err, git.ErrRefused) || !strings.Contains(err.Error(), "Authentication failed") {
		t.Errorf("without a password: %v", err)
	}
	r := open(t, strings.Replace(address, "http://", "http://me:secret@", 1))
	if strings.Contains(r.String(), "secret") {
		t.Errorf("String shows the password: %s", r)
	}
	works(t, r, bare, first, second)
}

// Without a password in the address git's credential helpers are asked.
func TestCredentialHelper(t *testing.T) {
	bare, first, second := repository(t)
	for key, value := range map[string]string{
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper",
		"GIT_CONFIG_VALUE_0": "!f() { echo username=me; echo password=secret; }; f",
	} {
		t.Setenv(key, value)
	}
	address := serveHTTP(t, filepath.Dir(bare), "secret") + "/" + strings.ReplaceAll(filepath.Base(bare), " ", "%20")
	works(t, open(t, address), bare, first, second)
}

// serveSSH starts a real sshd on a loopback port and returns its port and the
// command that may log in.
func serveSSH(t *testing.T) (port, command, login string) {
	t.Helper()
	paastatest.Need(t, "ssh")
	paastatest.Need(t, "ssh-keygen")
	sshd := paastatest.Need(t, "sshd")
	paastatest.NeedRoot(t) // sshd runs as whoever logs in
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	config := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\nAcceptEnv GIT_PROTOCOL\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n", port, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "sshd_config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
	}
	command = fmt.Sprintf("ssh -F none -i %s/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=%s/known -o LogLevel=ERROR", dir, dir)
	return port, command, me.Username
}

func TestSSH(t *testing.T) {
	port, command, login := serveSSH(t)
	t.Run("ssh url", func(t *testing.T) {
		bare, first, second := repository(t)
		t.Setenv("GIT_SSH_COMMAND", command)
		works(t, open(t, "ssh://"+login+"@127.0.0.1:"+port+strings.ReplaceAll(bare, " ", "%20")), bare, first, second)
	})
	t.Run("user@host:path", func(t *testing.T) {
		bare, first, second := repository(t)
		t.Setenv("GIT_SSH_COMMAND", command+" -p "+port)
		works(t, open(t, login+"@127.0.0.1:"+bare), bare, first, second)
	})
	t.Run("a key that may not", func(t *testing.T) {
		t.Setenv("GIT_SSH_COMMAND", "ssh -F none -i /dev/null -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null")
		_, err := open(t, "ssh://"+login+"@127.0.0.1:"+port+"/x.git").Tags(bounded(t))
		if !errors.Is(err, git.ErrRefused) || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("got %v", err)
		}
	})
}

// A server that is down, hangs or talks nonsense is said to be so, in time.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	hanging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hanging.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/typed") {
			w.Header().Set("Content-Type", "application/x-"+r.URL.Query().Get("service")+"-advertisement")
		}
		fmt.Fprint(w, "zzzzhello")
	}))
	t.Cleanup(nonsense.Close)
	for name, address := range map[string]string{
		"no such directory": t.TempDir() + "/nothing.git",
		"refused":           "http://" + gone.Addr().String() + "/r.git",
		"hangs":             "http://" + hanging.Addr().String() + "/r.git",
		"ssh refused":       "ssh://git@" + gone.Addr().String() + "/r.git",
		"ssh hangs":         "ssh://git@" + hanging.Addr().String() + "/r.git",
		"not git":           nonsense.URL + "/r.git",
		"not quite git":     nonsense.URL + "/typed.git",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := open(t, address).Tags(ctx)
			if !errors.Is(err, git.ErrUnreachable) {
				t.Errorf("list: %v", err)
			}
			if err := open(t, address).Push(ctx, tag(1, "a", paasta.TagDeploy, strings.Repeat("ab", 20))); !errors.Is(err, git.ErrUnreachable) {
				t.Errorf("push: %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A repository of another user is refused by git itself, which says what helps.
func TestAnotherUsersRepository(t *testing.T) {
	t.Parallel()
	paastatest.NeedRoot(t)
	bare, first, _ := repository(t)
	if err := os.Chown(bare, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	r := open(t, bare)
	_, err := r.Tags(bounded(t))
	for _, err := range []error{err, r.Push(bounded(t), tag(1, "a", paasta.TagDeploy, first))} {
		if !errors.Is(err, git.ErrRefused) || !strings.Contains(err.Error(), "safe.directory") {
			t.Errorf("got %v", err)
		}
	}
}

// The words of a hook that refuses reach the user.
func TestHookRefuses(t *testing.T) {
	t.Parallel()
	bare, first, _ := repository(t)
	hook := "#!/bin/sh\necho no deploys on Fridays >&2\necho ask Ada >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bare, "hooks", "pre-receive"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	err := open(t, bare).Push(bounded(t), tag(1, "a", paasta.TagDeploy, first))
	if !errors.Is(err, git.ErrRefused) || !strings.HasSuffix(err.Error(), "its hook says: no deploys on Fridays; ask Ada") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestExpandInClone(t *testing.T) {
	t.Parallel()
	bare, first, _ := repository(t)
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, "/", "clone", "-q", bare, clone)
	r := open(t, bare).InClone(clone)
	if got, err := r.Expand(bounded(t), first[:7]); err != nil || got != first {
		t.Errorf("expand: %s, %v", got, err)
	}
	// Two commits with one prefix: of 1200, some share their first four digits.
	seen := map[string]string{}
	stream := &strings.Builder{}
	for n := range 1200 {
		fmt.Fprintf(stream, "commit refs/heads/many\ncommitter a <a@b> %d +0000\ndata 0\n\n", n+1)
	}
	cmd := exec.Command("git", "-C", bare, "fast-import", "--quiet")
	cmd.Stdin = strings.NewReader(stream.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("fast-import: %v\n%s", err, out)
	}
	for sha := range strings.FieldsSeq(run(t, bare, "rev-list", "many")) {
		if other, ok := seen[sha[:4]]; ok {
			_, err := open(t, bare).Expand(bounded(t), sha[:4])
			if !errors.Is(err, git.ErrAmbiguous) || !strings.Contains(err.Error(), other) {
				t.Errorf("expand %s: %v", sha[:4], err)
			}
			return
		}
		seen[sha[:4]] = sha
	}
	t.Fatal("1200 commits and no two begin with the same four digits")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "-oProxyCommand=x", "ssh://-oProxyCommand=x/r", "ext::sh -c x", "git://host/r", "ftp://host/r", "http:///r", "ssh://host", "host:", "-x@y:z", "a\nb", "file://other/r",
		"ssh://-oProxyCommand=x@host/r", "ssh://%2DoProxyCommand=x@host/r", "ssh://-u:p@host/r", "ssh://u@-host/r", "git+ssh://-u@host/r", "u@-host:r", "u@host:-r",
		"https://u%0ahost=evil@host/r", "https://u@host/r%00", "ssh://u@host/r%0a", "https://-u@host/r",
	} {
		if r, err := git.Open(address); err == nil {
			t.Errorf("Open(%q) = %+v", address, r)
		}
	}
}
