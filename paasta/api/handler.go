package api

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/zk"
)

// document describes every route; a test compares the two.
//
//go:embed openapi.yaml
var document []byte

// maxBody bounds what a request may carry; no route needs a body today.
const maxBody = 64 << 10

// writeWithin bounds how long an answer may take, to be made and to be read.
const writeWithin = time.Minute

// A route is one line of the API. An error of its handler becomes an Error
// answer.
type route struct {
	method, path string
	handle       func(*server, http.ResponseWriter, *http.Request) error
}

var routes = []route{
	{"GET", "/v1/services", (*server).services},
	{"GET", "/v1/services/{service}/status", (*server).serviceStatus},
	{"GET", "/v1/services/{service}/{instance}/status", (*server).instanceStatus},
	{"GET", "/v1/services/{service}/deployments", (*server).deployments},
	{"GET", "/v1/services/{service}/metrics", (*server).serviceMetrics},
	{"GET", "/v1/services/{service}/logs", (*server).logs},
	{"POST", "/v1/services/{service}/kick", (*server).kick},
	{"GET", "/{$}", (*server).overviewPage},
	{"GET", "/healthz", (*server).healthz},
	{"GET", "/metrics", func(s *server, w http.ResponseWriter, r *http.Request) error {
		s.metricsHandler().ServeHTTP(w, r)
		return nil
	}},
	{"GET", "/openapi.yaml", func(_ *server, w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/yaml")
		_, err := w.Write(document)
		return ignoreGone(err)
	}},
}

// An httpError is an answer that is not 2xx.
type httpError struct {
	code   int
	answer Error
}

func (e httpError) Error() string { return e.answer.Message }

func failf(code int, hint, format string, args ...any) error {
	return httpError{code, Error{Message: fmt.Sprintf(format, args...), Hint: hint}}
}

// handler returns all routes, behind the checks that every request passes.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes {
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			if err := rt.handle(s, w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, s.noRoute(w, r, mux)) })
	// A page in somebody's browser must not kick what only this host may.
	crossSite := http.NewCrossOriginProtection()
	return s.observed(mux, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		// Nobody may hold an answer for ever; logs move it on with each line. Not
		// every writer has a deadline.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeWithin))
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case !s.Access.allows(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.fail(w, r, failf(http.StatusUnauthorized, "set api_token (or api_cert and api_key) in the system config of whoever asks",
				"this API wants a token or a client certificate, and got none that it knows"))
		case s.Access.Anyone && !httpserver.IsOwnHost(r):
			s.fail(w, r, failf(http.StatusForbidden, "ask by address, e.g. http://127.0.0.1:5054",
				"this API listens on loopback only, and the request was meant for host %q", r.Host))
		case crossSite.Check(r) != nil:
			s.fail(w, r, failf(http.StatusForbidden, "", "this request comes from a page of another site"))
		default:
			mux.ServeHTTP(w, r)
		}
	}))
}

// noRoute says why no route took a request.
func (s *server) noRoute(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		try := r.Clone(r.Context())
		try.Method = method
		if _, pattern := mux.Handler(try); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return failf(http.StatusMethodNotAllowed, "", "%s takes %s, not %s", r.URL.Path, strings.Join(allowed, " or "), r.Method)
	}
	return failf(http.StatusNotFound, "GET /openapi.yaml lists the paths", "no such path: %s", r.URL.Path)
}

// fail answers with an error.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e httpError
	if !errors.As(err, &e) {
		if r.Context().Err() != nil {
			return // nobody is there to read it
		}
		e = httpError{http.StatusInternalServerError, Error{Message: err.Error()}}
		s.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	s.write(w, e.code, e.answer)
}

// write answers with JSON. An answer that cannot be written has lost its
// reader.
func (s *server) write(w http.ResponseWriter, code int, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err)) // our own types always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if _, err := w.Write(b.Bytes()); err != nil {
		s.Log.Debug("write answer failed", "err", err)
	}
}

// observed counts, times and logs every request, under its route.
func (s *server) observed(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		_, pattern := mux.Handler(r)
		seen := &codeWriter{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(seen, r)
		took := time.Since(began)
		if _, path, ok := strings.Cut(pattern, " "); ok {
			pattern = path
		}
		method := r.Method
		if !slices.Contains([]string{"GET", "HEAD", "POST"}, method) {
			method = "other" // a caller's invention must not become a label
		}
		s.requests.WithLabelValues(pattern, method, strconv.Itoa(seen.code)).Inc()
		if r.URL.Query().Get("follow") == "" {
			s.took.WithLabelValues(pattern).Observe(took.Seconds())
		}
		s.Log.Debug("answered", "method", r.Method, "path", r.URL.Path, "code", seen.code, "took", took.String(), "from", r.RemoteAddr)
	})
}

// A codeWriter remembers the status code.
type codeWriter struct {
	http.ResponseWriter
	code int
}

func (w *codeWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// soa returns the latest soa-configs.
func (s *server) soa() (*soaconfig.Tree, error) {
	if t := s.tree.Load(); t != nil {
		return t, nil
	}
	return nil, failf(http.StatusServiceUnavailable, "try again in a second", "soa-configs (%s) have not been read yet", s.SoaDir)
}

// service returns the service that the path names.
func (s *server) service(r *http.Request) (*soaconfig.Tree, *soaconfig.Service, error) {
	tree, err := s.soa()
	if err != nil {
		return nil, nil, err
	}
	name := r.PathValue("service")
	svc, ok := tree.Services[name]
	if !ok {
		return nil, nil, failf(http.StatusNotFound, "paasta list", "no service %q in cluster %s", name, s.Cluster)
	}
	return tree, svc, nil
}

// instances lists the instances of a service in this cluster, sorted: those
// that may not be gone, so broken ones as well.
func (s *server) instances(svc *soaconfig.Service) []string {
	entries := svc.Instances[s.Cluster]
	names := make([]string, 0, len(entries.Valid)+len(entries.Invalid))
	for name := range entries.Valid {
		names = append(names, name)
	}
	for name := range entries.Invalid {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *server) services(w http.ResponseWriter, _ *http.Request) error {
	tree, err := s.soa()
	if err != nil {
		return err
	}
	all := []Service{}
	for name, svc := range tree.Services {
		if instances := s.instances(svc); len(instances) > 0 {
			all = append(all, Service{Name: name, Instances: instances})
		}
	}
	slices.SortFunc(all, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	s.write(w, http.StatusOK, all)
	return nil
}

func (s *server) serviceStatus(w http.ResponseWriter, r *http.Request) error {
	tree, svc, err := s.service(r)
	if err != nil {
		return err
	}
	names := s.instances(svc)
	if len(svc.Instances[s.Cluster].Unreadable) > 0 { // deployd knows what was valid before
		bounces, _, _ := s.bounces(r.Context(), svc.Name) // status says what is unknown
		names = slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(names, maps.Keys(bounces)))))
	}
	s.write(w, http.StatusOK, s.status(r.Context(), tree, svc, names))
	return nil
}

func (s *server) instanceStatus(w http.ResponseWriter, r *http.Request) error {
	tree, svc, err := s.service(r)
	if err != nil {
		return err
	}
	name := r.PathValue("instance")
	if _, maybe, _ := svc.Instances[s.Cluster].Find(name); !maybe {
		return failf(http.StatusNotFound, fmt.Sprintf("paasta status -s %s", svc.Name),
			"service %s has no instance %q in cluster %s (it has: %s)", svc.Name, name, s.Cluster, cmp.Or(strings.Join(s.instances(svc), ", "), "none"))
	}
	s.write(w, http.StatusOK, s.status(r.Context(), tree, svc, []string{name})[0])
	return nil
}

func (s *server) deployments(w http.ResponseWriter, r *http.Request) error {
	_, svc, err := s.service(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), zookeeperWithin)
	defer cancel()
	d, err := s.deployed(ctx, svc.Name)
	if err != nil {
		return failf(http.StatusBadGateway, "", "%v", err)
	}
	s.write(w, http.StatusOK, d)
	return nil
}

func (s *server) kick(w http.ResponseWriter, r *http.Request) error {
	_, svc, err := s.service(r)
	if err != nil {
		return err
	}
	from := r.URL.Query().Get("from")
	if from != "" && from != paasta.KickFromHook {
		return failf(http.StatusBadRequest, "leave it out, unless a hook of the git server asks", "from: unknown value %q (known: %s)", from, paasta.KickFromHook)
	}
	ctx, cancel := context.WithTimeout(r.Context(), zookeeperWithin)
	defer cancel()
	kick := paasta.KickPath(s.Cluster, svc.Name)
	err = s.ZK.Create(ctx, kick, []byte(from))
	pending := errors.Is(err, zk.ErrNodeExists)
	if pending {
		err = nil
		if from != "" {
			err = s.ZK.Put(ctx, kick, []byte(from)) // the pending one may not be from a hook
		}
	}
	if err != nil {
		return failf(http.StatusBadGateway, "deployd finds the change by itself within its poll interval",
			"kick %s: %v", svc.Name, err)
	}
	s.write(w, http.StatusAccepted, Kick{Service: svc.Name, Pending: pending})
	return nil
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) error {
	tree, err := s.soa()
	if err != nil {
		return err
	}
	h := Health{Status: "ok", Cluster: s.Cluster, ZooKeeper: s.ZK.Connected(), Services: len(tree.Services)}
	if !h.ZooKeeper {
		h.Status = "no ZooKeeper session" // and no failure of this server's: the rest is answered
	}
	s.write(w, http.StatusOK, h)
	return nil
}

// ignoreGone drops the error of a write: whoever asked has gone.
func ignoreGone(error) error { return nil }
