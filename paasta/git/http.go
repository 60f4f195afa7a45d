package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/gopaasta/paasta/paasta"
)

// A session is one conversation over HTTP: where the server's redirects led,
// and as whom.
type session struct {
	base string
	user *url.Userinfo
}

func (r *Remote) open() *session {
	u := url.URL{Scheme: r.scheme, Host: r.host, Path: strings.TrimSuffix(r.path, "/")}
	return &session{base: u.String(), user: r.user}
}

// advertisement asks for what service begins with.
func (s *session) advertisement(ctx context.Context, service string, prefixes []string) (*listing, error) {
	answer, err := s.do(ctx, http.MethodGet, "/info/refs?service="+service, service, nil)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	s.base = strings.TrimSuffix(answer.Request.URL.Scheme+"://"+answer.Request.URL.Host+answer.Request.URL.Path, "/info/refs")
	if want := "application/x-" + service + "-advertisement"; answer.Header.Get("Content-Type") != want {
		return nil, fmt.Errorf("%w: GET %s: content type %q is not git's smart protocol", ErrUnreachable, s.base, answer.Header.Get("Content-Type"))
	}
	p := newPktReader(answer.Body)
	// "# service=…" and a flush come first, but for version 2 from some servers.
	if begin, err := p.r.Peek(6); err == nil && string(begin[4:]) == "# " {
		for {
			line, err := p.next()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			if line.mark {
				break
			}
		}
	}
	return readAdvertisement(p, prefixes)
}

// do sends one request. When the server wants to know who asks, and the
// address does not say, it asks git's credential helpers.
func (s *session) do(ctx context.Context, method, path, service string, body []byte) (*http.Response, error) {
	for asked := false; ; asked = true {
		request, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("User-Agent", "git/paasta") // some servers look for "git/"
		if service == "git-upload-pack" {
			request.Header.Set("Git-Protocol", "version=2")
		}
		if method == http.MethodPost {
			request.Header.Set("Content-Type", "application/x-"+service+"-request")
			request.Header.Set("Accept", "application/x-"+service+"-result")
		}
		if s.user != nil {
			password, _ := s.user.Password()
			request.SetBasicAuth(s.user.Username(), password)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if answer.StatusCode == http.StatusOK {
			return answer, nil
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 512))
		answer.Body.Close()
		if answer.StatusCode == http.StatusUnauthorized && !asked {
			if s.user = credentials(ctx, request.URL, s.user); s.user != nil {
				continue
			}
		}
		err = fmt.Errorf("%s %s: %s: %s", method, request.URL.Redacted(), answer.Status, strings.TrimSpace(string(text)))
		class := ErrRefused
		if answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
			class = ErrUnreachable
		}
		return nil, fmt.Errorf("%w: %w", class, err)
	}
}

// credentials asks git's credential helpers, without a prompt; nil when they
// know nothing.
func credentials(ctx context.Context, u *url.URL, user *url.Userinfo) *url.Userinfo {
	cmd := exec.CommandContext(ctx, "git", "credential", "fill")
	ask := "protocol=" + u.Scheme + "\nhost=" + u.Host + "\n"
	if user != nil {
		ask += "username=" + user.Username() + "\n"
	}
	cmd.Stdin = strings.NewReader(ask + "\n")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "SSH_ASKPASS=true")
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

func (r *Remote) listHTTP(ctx context.Context, prefixes []string) (*listing, error) {
	s := r.open()
	l, err := s.advertisement(ctx, "git-upload-pack", prefixes)
	if err != nil || !l.version2 {
		return l, err
	}
	answer, err := s.do(ctx, http.MethodPost, "/git-upload-pack", "git-upload-pack", []byte(lsRefs(prefixes)))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return readRefs(newPktReader(answer.Body), prefixes)
}

func (r *Remote) pushHTTP(ctx context.Context, tags []paasta.Tag) error {
	s := r.open()
	l, err := s.advertisement(ctx, "git-receive-pack", []string{paasta.TagRefPrefix})
	if err != nil {
		return err
	}
	request, err := updates(l, tags)
	if err != nil {
		return err
	}
	answer, err := s.do(ctx, http.MethodPost, "/git-receive-pack", "git-receive-pack", request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if want := "application/x-git-receive-pack-result"; answer.Header.Get("Content-Type") != want {
		return errors.New("git server answers the push with " + answer.Header.Get("Content-Type"))
	}
	return readReport(newPktReader(answer.Body), l)
}
