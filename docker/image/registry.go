package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A Registry is one that speaks Docker's registry API v2.
type Registry struct {
	Address     string // host[:port]
	Credentials Credentials
	HTTP        *http.Client // default: one with a timeout of 20 s that trusts what Docker trusts

	withheld bool // the credentials are not sent: the connection is not encrypted
}

// manifestTypes are the kinds of manifest that we take for an image.
var manifestTypes = []string{
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.oci.image.index.v1+json",
}

// Has tells whether the registry has name ("repository:tag"). It asks over TLS.
// A registry that does not speak it is asked in plain text, as Docker does with
// those that it is told to: one on loopback as it is, another one without
// credentials.
func (r Registry) Has(ctx context.Context, name string) (bool, error) {
	repository, tag, ok := strings.Cut(name, ":")
	if !ok {
		return false, fmt.Errorf("%q names no tag", name)
	}
	if r.HTTP == nil {
		var err error
		if r.HTTP, err = r.trusting(); err != nil {
			return false, err
		}
	}
	path := "/v2/" + repository + "/manifests/" + tag
	has, err := r.head(ctx, "https://"+r.Address+path)
	var broken *url.Error // no answer at all, in whatever words
	if errors.Is(err, http.ErrSchemeMismatch) || ctx.Err() == nil && r.loopback() && errors.As(err, &broken) {
		if !r.loopback() && r.Credentials != (Credentials{}) {
			r.Credentials, r.withheld = Credentials{}, true
		}
		var plain error
		if has, plain = r.head(ctx, "http://"+r.Address+path); plain == nil {
			return has, nil
		}
		err = plain
	}
	if err != nil {
		return false, fmt.Errorf("ask the registry for %s: %w", name, err)
	}
	return has, nil
}

func (r Registry) loopback() bool {
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		host = r.Address
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

// head asks once, and a second time with what the first answer says is needed.
func (r Registry) head(ctx context.Context, url string) (bool, error) {
	resp, err := r.ask(ctx, url, "")
	if err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		authorization, err := r.authorize(ctx, resp.Header.Get("WWW-Authenticate"))
		if err != nil {
			return false, err
		}
		if resp, err = r.ask(ctx, url, authorization); err != nil {
			return false, err
		}
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return false, fmt.Errorf("HEAD %s: %s (docker login %s stores credentials)", url, resp.Status, r.Address)
	}
	return false, fmt.Errorf("HEAD %s: %s", url, resp.Status)
}

func (r Registry) ask(ctx context.Context, url, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", strings.Join(manifestTypes, ", "))
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return nil, err // says the method and the URL
	}
	return resp, resp.Body.Close()
}

// authorize answers a challenge: with the password, or with a token that the
// named server gives for it.
func (r Registry) authorize(ctx context.Context, challenge string) (string, error) {
	scheme, rest, _ := strings.Cut(challenge, " ")
	switch strings.ToLower(scheme) {
	case "basic":
		switch {
		case r.withheld:
			return "", fmt.Errorf("the registry %s wants credentials and does not speak TLS: they are not sent in plain text", r.Address)
		case r.Credentials == (Credentials{}):
			return "", fmt.Errorf("the registry wants credentials, and Docker's configuration has none (docker login %s stores them)", r.Address)
		}
		req := http.Request{Header: http.Header{}}
		req.SetBasicAuth(r.Credentials.User, r.Credentials.Password)
		return req.Header.Get("Authorization"), nil
	case "bearer":
		return r.token(ctx, parameters(rest))
	}
	return "", fmt.Errorf("the registry asks for authorization in an unknown way: %q", challenge)
}

func (r Registry) token(ctx context.Context, p map[string]string) (string, error) {
	u, err := url.Parse(p["realm"])
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("the registry names no usable token server: %q", p["realm"])
	}
	q := u.Query()
	for _, key := range []string{"service", "scope"} {
		if p[key] != "" {
			q.Set(key, p[key])
		}
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	if r.Credentials != (Credentials{}) {
		if u.Scheme != "https" && !(Registry{Address: u.Host}).loopback() {
			return "", fmt.Errorf("the registry's token server %s does not speak TLS: credentials are not sent in plain text", u.Redacted())
		}
		req.SetBasicAuth(r.Credentials.User, r.Credentials.Password)
	}
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", u.Redacted(), resp.Status)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("GET %s: %w", u.Redacted(), err)
	}
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	if answer.Token == "" {
		return "", errors.New("the token server answered without a token")
	}
	return "Bearer " + answer.Token, nil
}

// parameters reads key="value", key=value, … of a challenge. Values in quotes
// may hold commas.
func parameters(s string) map[string]string {
	p := map[string]string{}
	for s = strings.TrimLeft(s, " ,"); s != ""; s = strings.TrimLeft(s, " ,") {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		if quoted, is := strings.CutPrefix(rest, `"`); is {
			value, s, _ = strings.Cut(quoted, `"`)
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		p[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	return p
}
