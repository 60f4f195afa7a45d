package api

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// A Hub hands events to whoever listens on /v2/events.
type Hub struct {
	mu        sync.Mutex
	listeners map[*listener]bool
}

// A listener that does not keep up is cut off: it would miss events and not
// know it.
type listener struct {
	events chan core.Event
	types  map[string]bool // nil for all
	lost   bool
}

// buffered is how many events may wait for a slow listener.
const buffered = 1024

// Send hands out events, in order, without ever waiting.
func (h *Hub) Send(events []core.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		for _, e := range events {
			if l.lost || l.types != nil && !l.types[e.Type] {
				continue
			}
			select {
			case l.events <- e:
			default:
				l.lost = true
				close(l.events)
				delete(h.listeners, l)
			}
		}
	}
}

func (h *Hub) add(types []string) *listener {
	l := &listener{events: make(chan core.Event, buffered)}
	for _, t := range types {
		if l.types == nil {
			l.types = map[string]bool{}
		}
		l.types[t] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = map[*listener]bool{}
	}
	h.listeners[l] = true
	return l
}

func (h *Hub) remove(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
}

// heartbeat is how often a bare line is sent when nothing happens.
const heartbeat = 10 * time.Second

// events serves GET /v2/events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if !accepts(r, "text/event-stream") {
		fail(w, core.Refuse(http.StatusMethodNotAllowed, "Method Not Allowed: /v2/events wants Accept: text/event-stream"))
		return
	}
	q := r.URL.Query()
	light := q.Get("plan-format") == "light"
	attached := func(kind string) core.Event {
		return core.Event{Type: kind, Fields: map[string]any{"remoteAddress": clientIP(r)}, Time: time.Now()}
	}
	s.Hub.Send([]core.Event{attached("event_stream_attached")}) // to the others
	l := s.Hub.add(q["event_type"])
	defer func() {
		s.Hub.remove(l)
		s.Hub.Send([]core.Event{attached("event_stream_detached")})
	}()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream;charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Connection", "close")
	control := http.NewResponseController(w)
	// Each write must get through in a bounded time; a listener that is gone
	// without a word is noticed by the heartbeats.
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(3 * heartbeat)) // not every writer can
		if _, err := w.Write([]byte(text)); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	// The one who attaches is told in any case, whatever its filter says.
	if !send(wire(attached("event_stream_attached"), light)) {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.Stop:
			return
		case <-beat.C:
			if !send("\r\n") {
				return
			}
		case e, ok := <-l.events:
			if !ok || !send(wire(e, light)) {
				return
			}
		}
	}
}

func wire(e core.Event, light bool) string {
	return fmt.Sprintf("event: %s\r\ndata: %s\r\n\r\n", e.Type, encode(e.Document(light)))
}
