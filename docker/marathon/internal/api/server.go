// Package api is the HTTP side of paasta marathon: Marathon's /v2 and our own
// /paasta.
package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A Server answers Marathon's API. Every field is required.
type Server struct {
	// Do runs f where the machine is owned. It returns once everything that f
	// changed is stored; its error is for the client.
	Do      func(ctx context.Context, f func(m *core.Machine, now time.Time)) error
	Hub     *Hub
	Check   func(*definition.App) []definition.Problem // what this machine cannot do
	Logs    func(ctx context.Context, taskID string, q LogQuery, send func(LogLine) error) error
	Ended   func() []core.Ended // oldest first
	Leader  string              // our own host:port
	Stop    <-chan struct{}     // closed when streams should end
	Metrics http.Handler
}

// A LogQuery says which lines of a task's output are wanted.
type LogQuery struct {
	Stdout, Stderr, Follow bool
	Lines                  int // the last so many; negative for all
}

// A LogLine is one line of the answer to /paasta/tasks/{id}/logs.
type LogLine struct {
	Time    time.Time `json:"timestamp"`
	Stream  string    `json:"stream"` // stdout or stderr
	Message string    `json:"message"`
}

// ErrNoTask is what Logs returns for a task that nobody knows.
var ErrNoTask = errors.New("no such task")

// maxBody bounds what a client may send.
const maxBody = 16 << 20

// ServeHTTP answers. Paths are taken apart by hand: clients send double slashes,
// which http.ServeMux would answer with redirects.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var segments []string
	for p := range strings.SplitSeq(r.URL.EscapedPath(), "/") {
		if p == "" {
			continue
		}
		text, err := url.PathUnescape(p)
		if err != nil {
			fail(w, refusal(http.StatusBadRequest, "bad path %s", r.URL.Path))
			return
		}
		segments = append(segments, text)
	}
	if len(segments) == 2 && segments[0] == "v2" && segments[1] == "events" && r.Method == http.MethodGet {
		s.events(w, r)
		return
	}
	if len(segments) == 4 && segments[0] == "paasta" && segments[1] == "tasks" && segments[3] == "logs" {
		s.logs(w, r, segments[2])
		return
	}
	if len(segments) == 2 && segments[0] == "paasta" && segments[1] == "tasks" {
		s.ended(w, r)
		return
	}
	h := w.Header()
	h.Set("X-Marathon-Leader", "http://"+s.Leader)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-XSS-Protection", "1; mode=block")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "0")
	switch {
	case len(segments) == 0:
		http.Redirect(w, r, "/ui/", http.StatusFound)
		return
	case r.Method == http.MethodOptions && (segments[0] == "ping" || segments[0] == "metrics"):
		h.Set("Allow", "GET, HEAD, OPTIONS")
		return
	case segments[0] == "ping" && len(segments) == 1:
		ping(w, r)
		return
	case segments[0] == "metrics":
		s.Metrics.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, refusal(http.StatusRequestEntityTooLarge, "body: %v", err))
		return
	}
	q := &request{r: r, query: r.URL.Query(), body: body, header: h, method: r.Method, path: segments, by: core.Request{
		ClientIP: clientIP(r), URI: r.URL.Path,
	}}
	if q.method == http.MethodHead {
		q.method = http.MethodGet
	}
	var a answer
	stored := s.Do(r.Context(), func(m *core.Machine, now time.Time) {
		q.m, q.now = m, now
		a = s.route(q)
		// Inside, since what is shown belongs to the machine.
		if text, is := a.body.(plain); is {
			a.text = []byte(text)
		} else if a.err == nil && a.body != nil {
			a.text, a.err = encode(a.body)
		}
	})
	switch {
	case stored != nil:
		fail(w, refusal(http.StatusServiceUnavailable, "%v", stored))
	case a.err != nil:
		fail(w, a.err)
	default:
		write(w, r, a)
	}
}

// A request is one call of the API, within Do.
type request struct {
	r      *http.Request
	query  url.Values
	body   []byte
	header http.Header
	method string   // GET also for HEAD
	path   []string // segments
	by     core.Request
	m      *core.Machine
	now    time.Time
}

func (q *request) flag(name string) bool { return strings.EqualFold(q.query.Get(name), "true") }

// An answer is what a call gets: a body, or none, or an error.
type answer struct {
	status int
	body   any
	text   []byte // of body
	err    error
}

func ok(body any) answer { return answer{status: http.StatusOK, body: body} }

func wrong(err error) answer { return answer{err: err} }

func refusal(status int, format string, args ...any) *core.Error {
	return &core.Error{Status: status, Body: map[string]any{"message": fmt.Sprintf(format, args...)}}
}

// notAllowed answers what is none of the methods of a route, with their list,
// e.g. "GET, HEAD", which is all that OPTIONS asks for.
func (q *request) notAllowed(methods string) answer {
	q.header.Set("Allow", methods+", OPTIONS")
	if q.method == http.MethodOptions {
		return answer{status: http.StatusOK}
	}
	return wrong(refusal(http.StatusMethodNotAllowed, "Method Not Allowed"))
}

// plain is a body that is no JSON.
type plain string

// deployed answers with the id of the deployment that a call has started.
func (q *request) deployed(status int, d *core.Deployment, err error) answer {
	if err != nil {
		return wrong(err)
	}
	q.header.Set("Marathon-Deployment-Id", d.ID)
	return answer{status: status, body: map[string]string{"version": d.Version, "deploymentId": d.ID}}
}

func (s *Server) route(q *request) answer {
	notFound := wrong(refusal(http.StatusNotFound, "URI not found: %s", q.r.URL.Path))
	if q.path[0] == "paasta" && len(q.path) == 2 && q.path[1] == "agents" && q.method == http.MethodGet {
		return ok(map[string]any{"agents": q.m.Agents()})
	}
	if q.path[0] != "v2" || len(q.path) < 2 {
		return notFound
	}
	rest := q.path[2:]
	switch q.path[1] {
	case "apps":
		return s.apps(q, rest)
	case "tasks":
		return s.tasks(q, rest)
	case "deployments":
		return s.deployments(q, rest)
	case "groups":
		return s.groups(q, rest)
	case "queue":
		return s.queue(q, rest)
	case "events":
		return q.notAllowed("GET")
	case "info":
		if len(rest) == 0 {
			return s.info(q)
		}
	case "leader":
		if len(rest) == 0 {
			return s.leader(q)
		}
	case "plugins":
		if q.method != http.MethodGet {
			return q.notAllowed("GET, HEAD")
		}
		return ok(map[string]any{"plugins": []any{}})
	}
	return notFound
}

// encode writes JSON as Marathon does: with "<" as it is.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// write sends an answer, compressed if that is wanted.
func write(w http.ResponseWriter, r *http.Request, a answer) {
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, is := a.body.(plain); is {
		w.Header().Set("Content-Type", "text/plain")
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(a.text) > 1400 {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(a.status)
		z := gzip.NewWriter(w)
		_, _ = z.Write(a.text) // the client may have gone
		_ = z.Close()
		return
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.text) // the client may have gone
}

// fail sends an error in Marathon's form.
func fail(w http.ResponseWriter, err error) {
	var known *core.Error
	var invalid *definition.InvalidError
	var syntax *definition.SyntaxError
	status, body := http.StatusInternalServerError, map[string]any{"message": err.Error()}
	switch {
	case errors.As(err, &known):
		status, body = known.Status, known.Body
	case errors.As(err, &invalid):
		status = http.StatusUnprocessableEntity
		body = map[string]any{"message": invalid.Message, "details": invalid.Problems}
	case errors.As(err, &syntax):
		status = http.StatusBadRequest
		body = map[string]any{"message": syntax.Message, "details": syntax.Details}
	}
	text, bad := encode(body)
	if bad != nil {
		panic(bad) // it is made of texts
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have gone
}

func ping(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		fail(w, refusal(http.StatusMethodNotAllowed, "Method Not Allowed"))
	case accepts(r, "text/plain") || r.Header.Get("Accept") == "":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "pong") // the client may have gone
	case accepts(r, "application/json"):
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `"pong"`)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func accepts(r *http.Request, kind string) bool {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			part, _, _ = strings.Cut(part, ";")
			part = strings.TrimSpace(part)
			if part == kind || kind != "text/event-stream" && part == "*/*" {
				return true
			}
		}
	}
	return false
}

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
