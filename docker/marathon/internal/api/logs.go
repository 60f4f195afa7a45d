package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// ended serves GET /paasta/tasks.
func (s *Server) ended(w http.ResponseWriter, r *http.Request) {
	list := []core.Ended{}
	v := r.URL.Query()
	for _, e := range s.Ended() {
		if (!v.Has("service") || e.Service == v.Get("service")) && (!v.Has("instance") || e.Instance == v.Get("instance")) {
			list = append(list, e)
		}
	}
	answer(w, r, http.StatusOK, map[string]any{"tasks": list})
}

// logs serves GET /paasta/tasks/{id}/logs as newline-delimited JSON.
func (s *Server) logs(w http.ResponseWriter, r *http.Request, taskID string) {
	v := r.URL.Query()
	q := LogQuery{Stdout: true, Stderr: true, Follow: strings.EqualFold(v.Get("follow"), "true"), Lines: -1}
	switch v.Get("stream") {
	case "", "all":
	case "stdout":
		q.Stderr = false
	case "stderr":
		q.Stdout = false
	default:
		fail(w, core.Refuse(http.StatusUnprocessableEntity, "stream is %q: want stdout, stderr or all", v.Get("stream")))
		return
	}
	if text := v.Get("lines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			fail(w, core.Refuse(http.StatusUnprocessableEntity, "lines is %q: want a number", text))
			return
		}
		q.Lines = n
	}
	control := http.NewResponseController(w)
	begun := false
	begin := func() {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			_ = control.Flush() // not every writer can
		}
	}
	enc := json.NewEncoder(w)
	if q.Follow {
		begin()
	}
	err := s.Logs(r.Context(), taskID, q, func(l LogLine) error {
		begin()
		if err := enc.Encode(l); err != nil {
			return err
		}
		if q.Follow {
			return control.Flush()
		}
		return nil
	})
	switch {
	case err == nil:
		begin()
	case begun:
		// The answer has begun; the client sees that it ends.
	case errors.Is(err, ErrNoTask):
		fail(w, core.Refuse(http.StatusNotFound, "Task '%s' does not exist", taskID))
	default:
		fail(w, core.Refuse(http.StatusServiceUnavailable, "logs of %s: %v", taskID, err))
	}
}
