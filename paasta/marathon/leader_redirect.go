package marathon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects bounds how often one call is redirected: during an election two
// members may take each other for the leader.
const maxRedirects = 3

var errRedirect = errors.New("redirect not followed")

func redirects(r *http.Response) bool {
	switch r.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// follow returns where a member's redirect leads, and closes its answer. Go's
// client would drop our credentials on the way to another host, and would
// follow anywhere; the only place to go is the leader, which is a member that
// is configured or the one that this member names as the leader.
func (c *Client) follow(ctx context.Context, hc *http.Client, member *url.URL, response *http.Response) (*url.URL, error) {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	response.Body.Close()
	target, err := response.Location()
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, fmt.Errorf("%w: %d without a usable Location (%q)", errRedirect, response.StatusCode, response.Header.Get("Location"))
	}
	target.User = member.User
	if known := c.member(target); known != nil {
		if known.User != nil {
			target.User = known.User
		}
		return target, nil
	}
	if !c.leads(ctx, hc, member, target, response) {
		return nil, fmt.Errorf("%w: to %s, which is neither in marathon_servers nor the leader that X-Marathon-Leader names", errRedirect, origin(target))
	}
	if member.Scheme == "https" && target.Scheme == "http" && (c.user != "" || member.User != nil) {
		return nil, fmt.Errorf("%w: to %s, which would get the password unencrypted (add the leader's https address to marathon_servers)", errRedirect, origin(target))
	}
	return target, nil
}

// leads tells whether a member names target as the leader: in its redirect, in
// an earlier answer, or, asked for it, in an answer that it gets from the leader.
func (c *Client) leads(ctx context.Context, hc *http.Client, member, target *url.URL, redirect *http.Response) bool {
	want := origin(target)
	if leaderOf(redirect) == want {
		return true
	}
	if named := c.leader.Load(); named != nil && *named == want {
		return true
	}
	ask := *member
	ask.Path = strings.TrimRight(ask.Path, "/") + "/v2/leader"
	response, err := c.send(ctx, hc, &ask, request{method: http.MethodGet})
	if err != nil {
		return false
	}
	response.Body.Close()
	return leaderOf(response) == want
}

// member returns the configured member that an address belongs to; nil for none.
func (c *Client) member(u *url.URL) *url.URL {
	for _, m := range c.urls {
		if origin(m) == origin(u) {
			return m
		}
	}
	return nil
}

// leaderOf returns the origin that an answer names as the leader; "" for none.
func leaderOf(r *http.Response) string {
	u, err := url.Parse(r.Header.Get("X-Marathon-Leader"))
	if err != nil || u.Host == "" {
		return ""
	}
	return origin(u)
}

// origin is an address's scheme, host and port, the same for equal ones.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
