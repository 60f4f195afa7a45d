package deployd

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
)

// handler serves deployd's status pages. They are read-only, and only for those
// who mean this host.
func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer := struct {
			Leading   bool   `json:"leading"`
			Connected bool   `json:"connected"` // to ZooKeeper
			SoaError  string `json:"soa_error,omitempty"`
			Held      string `json:"held,omitempty"` // what waits for an operator's word
		}{Connected: d.ZK.Connected()}
		if t := d.term.Load(); t != nil {
			answer.Leading = true
			answer.Held = t.holds()
		}
		if err := d.soaErr.Load(); err != nil {
			answer.SoaError = (*err).Error()
		}
		code := http.StatusOK
		if !answer.Connected {
			code = http.StatusServiceUnavailable
		}
		reply(w, code, answer)
	})
	mux.HandleFunc("GET /v1/instances", func(w http.ResponseWriter, _ *http.Request) {
		d.led(w, func(t *term) { reply(w, http.StatusOK, t.statuses("")) })
	})
	mux.HandleFunc("GET /v1/instances/{service}", func(w http.ResponseWriter, r *http.Request) {
		d.led(w, func(t *term) { reply(w, http.StatusOK, t.statuses(r.PathValue("service"))) })
	})
	mux.HandleFunc("GET /v1/instances/{service}/{instance}", func(w http.ResponseWriter, r *http.Request) {
		d.led(w, func(t *term) {
			id := paasta.InstanceID{Service: r.PathValue("service"), Instance: r.PathValue("instance")}
			s, ok := t.status(id)
			if !ok {
				reply(w, http.StatusNotFound, message{"no instance " + id.String() + " in this cluster"})
				return
			}
			reply(w, http.StatusOK, s)
		})
	})
	return httpserver.OwnHostOnly(mux, httpserver.HostNames(d.Config.Hostname)...)
}

type message struct {
	Message string `json:"message"`
}

// led answers only when this deployd leads: only the leader knows.
func (d *daemon) led(w http.ResponseWriter, answer func(*term)) {
	t := d.term.Load()
	if t == nil {
		reply(w, http.StatusServiceUnavailable, message{"this deployd does not lead: the address of the one that does is below " + paasta.LeaderPath(d.Config.Cluster)})
		return
	}
	answer(t)
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// status is what is known of an instance, with when it is looked at next.
func (t *term) status(id paasta.InstanceID) (paasta.BounceStatus, bool) {
	s, ok := t.worker.Status(id)
	if ok {
		s.Next = t.pool.due(id)
	}
	return s, ok
}

// statuses are those of a service, or all, by name.
func (t *term) statuses(service string) []paasta.BounceStatus {
	all := t.worker.Statuses()
	all = slices.DeleteFunc(all, func(s paasta.BounceStatus) bool { return service != "" && s.Service != service })
	for n, s := range all {
		all[n].Next = t.pool.due(paasta.InstanceID{Service: s.Service, Instance: s.Instance})
	}
	slices.SortFunc(all, func(a, b paasta.BounceStatus) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}
