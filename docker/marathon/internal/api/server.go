// Package api is the HTTP side of paasta marathon: Marathon's /v2 and our own
// /paasta.
package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
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

// ServeHTTP answers. Clients send double slashes, which http.ServeMux would
// answer with redirects.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := path.Clean("/" + r.URL.Path)
	task, isTask := strings.CutPrefix(to, "/paasta/tasks")
	id, isLogs := strings.CutSuffix(task, "/logs")
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case to == "/v2/events" && r.Method == http.MethodGet:
		s.events(w, r)
		return
	case isTask && (isLogs || task == "") && !reads:
		fail(w, core.Refuse(http.StatusMethodNotAllowed, "Method Not Allowed"))
		return
	case isTask && isLogs:
		s.logs(w, r, strings.TrimPrefix(id, "/"))
		return
	case isTask && task == "":
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
	metrics := to == "/metrics" || strings.HasPrefix(to, "/metrics/")
	switch {
	case to == "/":
		http.Redirect(w, r, "/ui/", http.StatusFound)
	case r.Method == http.MethodOptions && (to == "/ping" || metrics):
		h.Set("Allow", "GET, HEAD, OPTIONS")
	case to == "/ping":
		ping(w, r)
	case metrics:
		s.Metrics.ServeHTTP(w, r)
	default:
		s.serve(w, r, to)
	}
}

// serve answers what is up to the machine.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, path string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, core.Refuse(http.StatusRequestEntityTooLarge, "body: %v", err))
		return
	}
	q := &request{
		Server: s, r: r, query: r.URL.Query(), body: body, header: w.Header(), status: http.StatusOK,
		by: core.Request{ClientIP: clientIP(r), URI: r.URL.Path},
	}
	var shown any
	stored := s.Do(r.Context(), func(m *core.Machine, now time.Time) {
		q.m, q.now = m, now
		if shown, err = q.route(path); err != nil || shown == nil {
			return
		}
		if _, text := shown.(plain); !text {
			shown = document(encode(shown)) // here, since it belongs to the machine
		}
	})
	switch {
	case stored != nil:
		fail(w, core.Refuse(http.StatusServiceUnavailable, "%v", stored))
	case err != nil:
		fail(w, err)
	default:
		answer(w, r, q.status, shown)
	}
}

// A body is JSON, but for these.
type (
	plain    string // text
	document []byte // JSON already
)

// encode writes JSON as Marathon does: with "<" as it is.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // answers are made of plain values
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// answer sends a body, compressed if that is wanted; nil for none.
func answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	var text []byte
	kind := "application/json"
	switch b := body.(type) {
	case nil:
		w.WriteHeader(status)
		return
	case plain:
		text, kind = []byte(b), "text/plain"
	case document:
		text = b
	default:
		text = encode(b)
	}
	w.Header().Set("Content-Type", kind)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(text) > 1400 {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z := gzip.NewWriter(w)
		_, _ = z.Write(text) // the client may have gone
		_ = z.Close()
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have gone
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
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(body)) // the client may have gone
}

func ping(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		fail(w, core.Refuse(http.StatusMethodNotAllowed, "Method Not Allowed"))
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
