package marathontest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// Auth makes every call need these credentials.
func (s *Server) Auth(user, password string) {
	s.set(func() { s.user, s.password = user, password })
}

// Leader is the address that this Marathon, which leads, is known by among its
// members. Its host differs from that of URL, as a leader's differs from a
// standby's.
func (s *Server) Leader() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		panic(err) // httptest's URLs are URLs
	}
	return "http://localhost:" + u.Port()
}

// Standby starts another member, which ends with the test. It does as Marathon
// does from 1.8 on: it redirects the event stream to the leader, and passes
// everything else on; or redirects that too, if all is true.
func (s *Server) Standby(t testing.TB, all bool) *httptest.Server {
	t.Helper()
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		electing := s.electing || s.down
		s.mu.Unlock()
		switch {
		case electing:
			noLeader(w)
		case all || r.URL.Path == "/v2/events":
			if all {
				w.Header().Set("X-Marathon-Leader", s.Leader()) // nothing else of this member's names it
			}
			http.Redirect(w, r, s.Leader()+r.URL.RequestURI(), http.StatusFound)
		default:
			s.serve(w, r)
		}
	}))
	t.Cleanup(standby.Close)
	return standby
}

// Elect begins the election of a new leader, which takes so long: the event
// streams end, every member answers 503, and the leader that comes knows no
// result of a health check until the checks have run again.
func (s *Server) Elect(takes time.Duration) {
	s.set(func() { s.electing = true })
	s.CloseStreams()
	s.ForgetResults()
	time.AfterFunc(takes, func() {
		s.do(func(m *core.Machine, _ time.Time) {
			s.electing = false
			for _, t := range m.Tasks("") {
				if s.auto && t.State == core.Running {
					s.check(t.ID, true)
				}
			}
		})
	})
}

// refused answers calls that reach no leader, or are not allowed.
func (s *Server) refused(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	electing, user, password := s.electing, s.user, s.password
	s.mu.Unlock()
	if electing {
		noLeader(w)
		return true
	}
	w.Header().Set("X-Marathon-Leader", s.Leader())
	if u, p, _ := r.BasicAuth(); user != "" && (u != user || p != password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Mesosphere"`)
		reply(w, http.StatusUnauthorized, map[string]any{"message": "Authentication required"})
		return true
	}
	return false
}

func noLeader(w http.ResponseWriter) {
	reply(w, http.StatusServiceUnavailable, map[string]any{"message": "Could not determine the current leader"})
}
