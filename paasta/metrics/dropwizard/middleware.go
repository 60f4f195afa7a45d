package dropwizard

import (
	"fmt"
	"net/http"
	"time"
)

// Middleware times h as NAME and counts its answers as NAME.2xx, NAME.5xx and
// so on. A handler that panics is counted as 5xx.
func (r *Registry) Middleware(name string, h http.Handler) http.Handler {
	timer := r.Timer(name)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		start := r.now()
		s := &statusWriter{ResponseWriter: w, status: http.StatusInternalServerError}
		defer func() {
			timer.Update(r.now().Sub(start))
			r.Counter(fmt.Sprintf("%s.%dxx", name, s.status/100)).Inc(1)
		}()
		h.ServeHTTP(s, req)
		if !s.wrote {
			s.status = http.StatusOK // what net/http sends for a handler that wrote nothing
		}
	})
}

// Time measures f as NAME, also when it panics.
func (r *Registry) Time(name string, f func()) {
	start := r.now()
	defer func() { r.Timer(name).Update(r.now().Sub(start)) }()
	f()
}

// Since measures from start to now as NAME.
func (r *Registry) Since(name string, start time.Time) { r.Timer(name).Update(r.now().Sub(start)) }

type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.status, w.wrote = http.StatusOK, true
	}
	return w.ResponseWriter.Write(p)
}

// Flush sends what was written, for those who ask whether they may by
// http.Flusher.
func (w *statusWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		if !w.wrote {
			w.status, w.wrote = http.StatusOK, true
		}
		f.Flush()
	}
}

// Unwrap lets http.ResponseController reach Hijack and the deadlines.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
