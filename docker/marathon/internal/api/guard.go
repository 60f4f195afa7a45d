package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/paasta/httpserver"
)

// A Guard says whose requests are answered. Who may change an app runs what he
// likes as the user of this process, which is root where there is a Docker
// Engine; so may a page in somebody's browser, unless it is kept out.
type Guard struct {
	// Token is wanted for everything that changes something, as a bearer token or
	// as the password of basic auth. With "", whoever connects may change all.
	Token string
	// Names of this host, besides its addresses and localhost, that requests may
	// be meant for.
	Names []string
}

// Handler returns next behind the guard. Its refusals look like Marathon's.
func (g Guard) Handler(next http.Handler) http.Handler {
	crossSite := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !httpserver.IsOwnHost(r, g.Names...):
			fail(w, core.Refuse(http.StatusForbidden, "this request was meant for host %q, and this is another: ask by address", r.Host))
		case !sameOrigin(r) || crossSite.Check(r) != nil:
			fail(w, core.Refuse(http.StatusForbidden, "this request comes from a page of another site"))
		case reads(r):
			next.ServeHTTP(w, r)
		case !g.allows(r):
			w.Header().Set("WWW-Authenticate", `Basic realm="paasta marathon"`)
			fail(w, core.Refuse(http.StatusUnauthorized, "what changes something needs the token of this Marathon, as Authorization: Bearer or as the password of basic auth"))
		case !isJSON(r):
			fail(w, core.Refuse(http.StatusUnsupportedMediaType, "Unsupported Media Type: want Content-Type: application/json"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

// sameOrigin tells whether no page but ours, if any, made the request, whatever
// it asks for.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Host != "" && u.Host == r.Host
}

func (g Guard) allows(r *http.Request) bool {
	if g.Token == "" {
		return true
	}
	_, token, _ := r.BasicAuth()
	if scheme, credentials, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(credentials)
	}
	// Hashed, so that comparing takes the same time for all lengths.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(g.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isJSON tells whether a body, if there is one, is said to be JSON. What a form
// or a script of another site may send without being asked is not.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		return true
	}
	return err == nil && (kind == "application/json" || kind == "application/json-patch+json" || kind == "application/merge-patch+json")
}
