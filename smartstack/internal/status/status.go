// Package status answers HTTP questions about an agent. It only reads.
package status

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/smartstack/internal/address"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
)

// longestWait bounds a long poll.
const longestWait = time.Minute

// A Source is the agent that is asked.
type Source interface {
	Status() agent.Status
	Backends(ctx context.Context, registration string, after int64) (paasta.AgentBackends, bool)
}

// A Server answers. Routes holds more, by pattern of http.ServeMux.
type Server struct {
	Agent  Source
	Extra  func() map[string]any // more keys of /status; nil for none
	Routes map[string]http.Handler
	// Connected tells whether there is a ZooKeeper session; nil for one that needs
	// none.
	Connected func() bool
}

// Handler returns the routes.
func (s Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /v1/backends/{registration}", s.backends)
	mux.HandleFunc("GET /v1/connections", s.connections)
	for pattern, h := range s.Routes {
		mux.Handle(pattern, h)
	}
	return mux
}

// healthz is 200 while HAProxy runs, or while there is nothing to serve. Without
// ZooKeeper it goes on serving, so that is said and is no failure: a supervisor
// that restarts it would mend nothing.
func (s Server) healthz(w http.ResponseWriter, _ *http.Request) {
	st := s.Agent.Status()
	if st.HAProxy.PID == 0 && len(st.Registrations) > 0 {
		http.Error(w, "HAProxy does not run", http.StatusServiceUnavailable)
		return
	}
	text := "ok\n"
	if s.Connected != nil && !s.Connected() {
		text = "no ZooKeeper session: what the registry said last is served\n"
	}
	_, _ = io.WriteString(w, text) // a client that went away
}

func (s Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.Agent.Status()
	all := map[string]any{"registrations": st.Registrations, "problems": st.Problems, "haproxy": st.HAProxy}
	if s.Extra != nil {
		maps.Copy(all, s.Extra())
	}
	httpserver.WriteJSON(w, all)
}

func (s Server) backends(w http.ResponseWriter, r *http.Request) {
	var after int64 = -1
	var wait time.Duration
	var err error
	q := r.URL.Query()
	if text := q.Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			http.Error(w, "after: want a generation, a number", http.StatusBadRequest)
			return
		}
	}
	if text := q.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			http.Error(w, "wait: want a duration, e.g. 5s", http.StatusBadRequest)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, longestWait))
	defer cancel()
	answer, ok := s.Agent.Backends(ctx, r.PathValue("registration"), after)
	if !ok {
		http.Error(w, "this host does not serve "+strconv.Quote(r.PathValue("registration")), http.StatusNotFound)
		return
	}
	httpserver.WriteJSON(w, answer)
}

func (s Server) connections(w http.ResponseWriter, r *http.Request) {
	host, err := netip.ParseAddr(r.URL.Query().Get("host"))
	if err != nil {
		http.Error(w, "host: want an IP address", http.StatusBadRequest)
		return
	}
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		http.Error(w, "port: want 1 to 65535", http.StatusBadRequest)
		return
	}
	n, err := address.Connections(netip.AddrPortFrom(host.Unmap(), uint16(port)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	httpserver.WriteJSON(w, paasta.AgentConnections{Connections: n})
}
