package git

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/process"
)

// maxBytes bounds what a server may answer: some million refs.
const maxBytes = 512 << 20

// createTags asks a git-receive-pack that advertises its refs to create tags,
// and reads what became of them. The pack that goes with them holds no object.
// git push cannot do that: it wants the commits, and their files, on this
// machine.
func createTags(tags []paasta.Tag, advertisement io.Reader, send func(request []byte) (io.Reader, error)) error {
	advertised := packp.NewAdvRefs()
	if err := advertised.Decode(io.LimitReader(advertisement, maxBytes)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !advertised.Capabilities.Supports(capability.ReportStatus) {
		return errors.New("git server does not report what it did (no report-status)")
	}
	request := packp.NewReferenceUpdateRequestFromCapabilities(advertised.Capabilities)
	for _, wanted := range []capability.Capability{capability.Atomic, capability.Sideband64k} {
		if advertised.Capabilities.Supports(wanted) {
			_ = request.Capabilities.Set(wanted) // fails only for one with an argument
		}
	}
	for _, t := range tags {
		if old, ok := advertised.References[t.Ref()]; ok {
			return fmt.Errorf("%s at %s: %w", t.Ref(), old, ErrExists)
		}
		request.Commands = append(request.Commands, &packp.Command{Name: plumbing.ReferenceName(t.Ref()), New: plumbing.NewHash(t.SHA)})
	}
	pack := []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00")
	sum := sha1.Sum(pack)
	request.Packfile = io.NopCloser(bytes.NewReader(append(pack, sum[:]...)))
	var text bytes.Buffer
	if err := request.Encode(&text); err != nil {
		return err
	}
	answer, err := send(text.Bytes())
	if err != nil {
		return err
	}
	answer = io.LimitReader(answer, maxBytes)
	hook := &process.Tail{Max: 4 << 10}
	if request.Capabilities.Supports(capability.Sideband64k) {
		demuxer := sideband.NewDemuxer(sideband.Sideband64k, answer)
		demuxer.Progress = hook
		answer = demuxer
	}
	report := packp.NewReportStatus()
	if err := report.Decode(answer); err != nil {
		return fmt.Errorf("%w: it did not say whether it took the tags: %w", ErrUnreachable, err)
	}
	_, _ = io.Copy(io.Discard, answer) // what a hook says comes to its end
	return refusals(report, cause(hook))
}

// refusals is what a report says of tags that were not created; nil for none.
// Servers name the cause in the report, or, like their hooks, beside it.
func refusals(report *packp.ReportStatus, hook string) error {
	var err error
	add := func(why error) {
		if err == nil {
			err = why
		} else {
			err = fmt.Errorf("%w; %w", err, why)
		}
	}
	if report.UnpackStatus != "ok" {
		add(fmt.Errorf("%w: %s", ErrRefused, report.UnpackStatus))
	}
	for _, c := range report.CommandStatuses {
		switch ref := c.ReferenceName.String(); {
		case c.Status == "ok":
		case strings.Contains(c.Status, "already exists"), locked(ref, c.Status), locked(ref, hook):
			add(fmt.Errorf("%s: %w", ref, ErrExists))
		case strings.Contains(c.Status, "missing necessary objects"), strings.Contains(c.Status, "bad pack"):
			add(fmt.Errorf("%s: %w", ref, ErrNoCommit))
		default:
			add(fmt.Errorf("%w %s: %s", ErrRefused, ref, c.Status))
		}
	}
	if err != nil && hook != "" {
		add(errors.New("its hook says: " + hook))
	}
	return err
}

// locked tells whether git says of a ref that another push creates it, or has.
func locked(ref, text string) bool {
	_, why, ok := strings.Cut(text, "cannot lock ref '"+ref+"': ")
	return ok && (strings.Contains(why, "already exists") || strings.Contains(why, "but expected") || strings.Contains(why, "File exists"))
}

// pushProgram talks to the git-receive-pack that it runs where the repository is.
func (r *Remote) pushProgram(ctx context.Context, tags []paasta.Tag) error {
	name, args := r.receivePack()
	cmd, stderr := r.command(ctx, name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return r.explain(err, stderr)
	}
	err = createTags(tags, out, func(request []byte) (io.Reader, error) {
		_, err := in.Write(request)
		return out, err
	})
	if err != nil {
		_, _ = io.WriteString(in, "0000") // a polite end, if it still listens
	}
	_ = in.Close()
	if wait := cmd.Wait(); errors.Is(err, ErrUnreachable) && wait != nil {
		return r.explain(wait, stderr)
	}
	return err
}

// receivePack is the command that runs git-receive-pack where the repository is.
func (r *Remote) receivePack() (name string, args []string) {
	if r.scheme == "file" {
		return "git", []string{"receive-pack", r.path}
	}
	host := r.host
	if r.user != nil {
		host = r.user.Username() + "@" + host
	}
	args = []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=10"}
	if r.port != "" {
		args = append(args, "-p", r.port)
	}
	args = append(args, host, "git-receive-pack '"+strings.ReplaceAll(r.path, "'", `'\''`)+"'")
	if command := os.Getenv("GIT_SSH_COMMAND"); command != "" {
		return "sh", append([]string{"-c", command + ` "$@"`, "ssh"}, args...)
	}
	if ssh := os.Getenv("GIT_SSH"); ssh != "" {
		return ssh, args
	}
	return "ssh", args
}

// pushHTTP talks to a git-receive-pack behind git's smart HTTP protocol.
func (r *Remote) pushHTTP(ctx context.Context, tags []paasta.Tag) error {
	s := r.open()
	advertisement, err := s.advertisement(ctx, "git-receive-pack")
	if err != nil {
		return err
	}
	defer advertisement.Close()
	return createTags(tags, advertisement, func(request []byte) (io.Reader, error) {
		answer, err := s.do(ctx, http.MethodPost, "/git-receive-pack", "application/x-git-receive-pack-result", request)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { answer.Body.Close() }) // each call ends its context
		return answer.Body, nil
	})
}

// A session is one conversation over HTTP: where the server's redirects led, and
// as whom.
type session struct {
	*Remote
	base string
}

func (r *Remote) open() *session {
	in := *r
	return &session{&in, (&url.URL{Scheme: r.scheme, Host: r.host, Path: strings.TrimSuffix(r.path, "/")}).String()}
}

// advertisement is what a service of git's smart protocol says first. A server
// that does not speak it is ErrUnreachable.
func (s *session) advertisement(ctx context.Context, service string) (io.ReadCloser, error) {
	answer, err := s.do(ctx, http.MethodGet, "/info/refs?service="+service, "application/x-"+service+"-advertisement", nil)
	if err != nil {
		return nil, err
	}
	to := answer.Request.URL
	s.base = strings.TrimSuffix(to.Scheme+"://"+to.Host+to.EscapedPath(), "/info/refs")
	return answer.Body, nil
}

// do sends one request. When the server wants to know who asks, and the address
// does not say, it asks git's credential helpers.
func (s *session) do(ctx context.Context, method, path, want string, body []byte) (*http.Response, error) {
	for asked := false; ; asked = true {
		request, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("User-Agent", "git/paasta") // some servers look for "git/"
		if body != nil {
			request.Header.Set("Content-Type", "application/x-git-receive-pack-request")
		}
		request.Header.Set("Accept", want)
		if s.user != nil {
			password, _ := s.user.Password()
			request.SetBasicAuth(s.user.Username(), password)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if answer.StatusCode == http.StatusOK && answer.Header.Get("Content-Type") == want {
			return answer, nil
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 512)) // the status says enough
		answer.Body.Close()
		if answer.StatusCode == http.StatusUnauthorized && !asked {
			if s.user = s.credentials(ctx, request.URL); s.user != nil {
				continue
			}
		}
		class := ErrRefused
		if answer.StatusCode < 400 || answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
			class = ErrUnreachable
		}
		return nil, fmt.Errorf("%w: %s %s: %s: content type %q, want %s: %q", class, method, request.URL.Redacted(), answer.Status, answer.Header.Get("Content-Type"), want, strings.TrimSpace(string(text)))
	}
}

// credentials asks git's credential helpers; nil when they know nothing.
func (r *Remote) credentials(ctx context.Context, u *url.URL) *url.Userinfo {
	ask := "protocol=" + u.Scheme + "\nhost=" + u.Host + "\n"
	if r.user != nil {
		ask += "username=" + r.user.Username() + "\n"
	}
	cmd := exec.CommandContext(ctx, "git", "credential", "fill")
	cmd.Env, cmd.Stdin = r.environment(), strings.NewReader(ask+"\n")
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	answer := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			answer[key] = value
		}
	}
	if answer["password"] == "" {
		return nil
	}
	return url.UserPassword(answer["username"], answer["password"])
}
