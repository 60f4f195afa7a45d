// Package marathontest is a small Marathon for tests: real HTTP and a real
// event stream, in memory, whose tasks do what the test says. It knows as much
// as deployd and package marathon use; paasta marathon is the whole thing.
package marathontest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Server is one Marathon.
type Server struct {
	*httptest.Server

	// Hosts get the tasks in turn.
	Hosts []string

	mu       sync.Mutex
	user     string // basic auth; "" for none
	password string
	electing bool // no member leads
	auto     bool
	delay    time.Duration // of kills
	down     bool
	lock     map[string]bool // apps that answer 409 without force
	apps     map[string]*app
	streams  map[chan event]bool
	next     int
	posts    []string // ids, in order
	calls    map[string]int
}

type app struct {
	def     map[string]any
	id      string // with the slash
	size    int
	version time.Time
	tasks   []*Task
}

// A Task is one task, as the test sees it.
type Task struct {
	ID, App, Host string
	Port          int
	State         string
	Staged        time.Time
	Started       time.Time
	Alive         *bool // nil: no result
	killed        bool
}

type event struct {
	kind string
	data map[string]any
}

// Start starts a Marathon that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Hosts: []string{"10.77.1.1", "10.77.2.1", "10.77.3.1"}, lock: map[string]bool{}, apps: map[string]*app{},
		streams: map[chan event]bool{}, calls: map[string]int{},
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.CloseStreams()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Auto makes tasks run and pass their checks as soon as they start.
func (s *Server) Auto(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auto = on
}

// KillDelay is how long a killed task stays listed.
func (s *Server) KillDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Down makes every call fail with 503.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	s.down = down
	s.mu.Unlock()
	if down {
		s.CloseStreams()
	}
}

// Lock makes changes of an app answer 409 unless they are forced.
func (s *Server) Lock(appID string, locked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock["/"+strings.TrimPrefix(appID, "/")] = locked
}

// CloseStreams ends all event streams, as a Marathon does that loses its lead.
func (s *Server) CloseStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.streams {
		delete(s.streams, c)
		close(c)
	}
}

// ForgetResults drops all health check results, as a new leader begins.
func (s *Server) ForgetResults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.apps {
		for _, t := range a.tasks {
			t.Alive = nil
		}
	}
}

// Apps lists the ids of the apps, sorted, without the slash.
func (s *Server) Apps() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.apps {
		ids = append(ids, strings.TrimPrefix(id, "/"))
	}
	slices.Sort(ids)
	return ids
}

// Definition returns what was posted for an app; nil if there is none.
func (s *Server) Definition(appID string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.apps["/"+appID]; a != nil {
		return a.def
	}
	return nil
}

// Size returns an app's size, -1 when there is none.
func (s *Server) Size(appID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.apps["/"+appID]; a != nil {
		return a.size
	}
	return -1
}

// Posted lists the ids of all apps that were ever created, in order.
func (s *Server) Posted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

// Calls counts the calls of a method and path so far, e.g. "POST /v2/apps".
func (s *Server) Calls(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// Tasks lists the tasks of an app, or of all with "", oldest first.
func (s *Server) Tasks(appID string) []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Task
	for id, a := range s.apps {
		if appID == "" || id == "/"+appID {
			for _, t := range a.tasks {
				out = append(out, *t)
			}
		}
	}
	slices.SortFunc(out, func(a, b Task) int { return a.Staged.Compare(b.Staged) })
	return out
}

// Run lets a task run.
func (s *Server) Run(taskID string) {
	s.change(taskID, func(t *Task) []event {
		t.State, t.Started = "TASK_RUNNING", time.Now()
		return []event{s.status(t)}
	})
}

// Healthy gives a task a health check result.
func (s *Server) Healthy(taskID string, alive bool) {
	s.change(taskID, func(t *Task) []event {
		t.Alive = &alive
		return []event{{"health_status_changed_event", map[string]any{"appId": t.App, "instanceId": t.ID, "taskId": t.ID, "alive": alive}}}
	})
}

// Unreachable makes the task's agent not answer.
func (s *Server) Unreachable(taskID string) {
	s.change(taskID, func(t *Task) []event {
		t.State = "TASK_UNREACHABLE"
		return []event{s.status(t)}
	})
}

// Fail ends a task; Marathon starts another.
func (s *Server) Fail(taskID string) { s.end(taskID, "TASK_FAILED") }

func (s *Server) end(taskID, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.apps {
		for n, t := range a.tasks {
			if t.ID == taskID {
				t.State = state
				a.tasks = slices.Delete(a.tasks, n, n+1)
				s.emit(s.status(t))
				s.fill(a)
				return
			}
		}
	}
}

func (s *Server) change(taskID string, f func(*Task) []event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.apps {
		for _, t := range a.tasks {
			if t.ID == taskID {
				s.emit(f(t)...)
				return
			}
		}
	}
}

func (s *Server) status(t *Task) event {
	return event{"status_update_event", map[string]any{
		"appId": t.App, "taskId": t.ID, "taskStatus": t.State, "host": t.Host, "ports": []int{t.Port},
	}}
}

// emit sends events to all streams; one that does not read loses them.
func (s *Server) emit(events ...event) {
	for _, e := range events {
		e.data["eventType"] = e.kind
		e.data["timestamp"] = stamp(time.Now())
		for c := range s.streams {
			select {
			case c <- e:
			default:
			}
		}
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// fill starts and kills tasks until an app has its size.
func (s *Server) fill(a *app) {
	live := func() int {
		n := 0
		for _, t := range a.tasks {
			if !t.killed {
				n++
			}
		}
		return n
	}
	for live() < a.size {
		s.next++
		t := &Task{
			ID:  fmt.Sprintf("%s.%08d-0000-11ee-8000-000000000000", strings.ReplaceAll(strings.Trim(a.id, "/"), "/", "_"), s.next),
			App: a.id, Host: s.Hosts[s.next%len(s.Hosts)], Port: 31000 + s.next, State: "TASK_STAGING", Staged: time.Now(),
		}
		a.tasks = append(a.tasks, t)
		if s.auto {
			yes := true
			t.State, t.Started, t.Alive = "TASK_RUNNING", time.Now(), &yes
			s.emit(s.status(t), event{"health_status_changed_event", map[string]any{"appId": t.App, "taskId": t.ID, "alive": true}})
		}
	}
	for n := len(a.tasks) - 1; n >= 0 && live() > a.size; n-- {
		if t := a.tasks[n]; !t.killed {
			s.kill(a, t)
		}
	}
}

// kill ends a task, now or after the kill delay.
func (s *Server) kill(a *app, t *Task) {
	t.killed = true
	remove := func() {
		t.State = "TASK_KILLED"
		a.tasks = slices.DeleteFunc(a.tasks, func(other *Task) bool { return other == t })
		s.emit(s.status(t))
	}
	if s.delay == 0 {
		remove()
		return
	}
	time.AfterFunc(s.delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		remove()
		s.fill(a)
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if s.refused(w, r) {
		return
	}
	if path == "/v2/events" {
		s.stream(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[r.Method+" "+path]++
	if s.down {
		reply(w, http.StatusServiceUnavailable, map[string]any{"message": "down, as the test wants"})
		return
	}
	force := strings.EqualFold(r.URL.Query().Get("force"), "true")
	id, isApp := strings.CutPrefix(path, "/v2/apps")
	switch {
	case path == "/ping":
		fmt.Fprint(w, "pong")
	case path == "/v2/leader":
		reply(w, http.StatusOK, map[string]any{"leader": strings.TrimPrefix(s.Leader(), "http://")})
	case path == "/v2/apps" && r.Method == http.MethodGet:
		s.list(w, r)
	case path == "/v2/apps" && r.Method == http.MethodPost:
		s.create(w, r)
	case path == "/v2/tasks/delete" && r.Method == http.MethodPost:
		s.killTasks(w, r, force)
	case path == "/v2/queue":
		s.queue(w)
	case isApp && s.apps[id] == nil && r.Method == http.MethodPut:
		reply(w, http.StatusUnprocessableEntity, map[string]any{"message": "Object is not valid"}) // a new app without a command
	case isApp && s.apps[id] == nil:
		reply(w, http.StatusNotFound, map[string]any{"message": fmt.Sprintf("App '%s' does not exist", id)})
	case isApp && s.lock[id] && !force && r.Method != http.MethodDelete:
		s.locked(w)
	case isApp && r.Method == http.MethodPut:
		var body struct{ Instances *int }
		if json.NewDecoder(r.Body).Decode(&body) != nil || body.Instances == nil {
			reply(w, http.StatusUnprocessableEntity, map[string]any{"message": "Object is not valid"})
			return
		}
		s.apps[id].size = *body.Instances
		s.fill(s.apps[id])
		s.deployed(w, http.StatusOK, id)
	case isApp && r.Method == http.MethodDelete:
		for _, t := range s.apps[id].tasks {
			t.State = "TASK_KILLED"
			s.emit(s.status(t))
		}
		delete(s.apps, id)
		s.emit(event{"app_terminated_event", map[string]any{"appId": id}})
		s.deployed(w, http.StatusOK, id)
	default:
		reply(w, http.StatusNotFound, map[string]any{"message": "URI not found: " + path})
	}
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) locked(w http.ResponseWriter) {
	reply(w, http.StatusConflict, map[string]any{
		"message":     "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
		"deployments": []any{map[string]any{"id": "97c136bf-5a28-4821-9d94-480d9fbb01c8"}},
	})
}

func (s *Server) deployed(w http.ResponseWriter, code int, id string) {
	s.emit(event{"deployment_success", map[string]any{"id": "d", "plan": map[string]any{
		"steps": []any{map[string]any{"actions": []any{map[string]any{"action": "ScaleApplication", "app": id}}}},
	}}})
	reply(w, code, map[string]any{"version": stamp(time.Now()), "deploymentId": "d"})
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	apps := []any{}
	for id, a := range s.apps {
		if filter := r.URL.Query().Get("id"); strings.Contains(id, filter) {
			apps = append(apps, s.info(a))
		}
	}
	reply(w, http.StatusOK, map[string]any{"apps": apps})
}

func (s *Server) info(a *app) map[string]any {
	out := map[string]any{}
	maps.Copy(out, a.def)
	out["id"], out["instances"], out["version"] = a.id, a.size, stamp(a.version)
	tasks := []any{}
	for _, t := range a.tasks {
		info := map[string]any{
			"id": t.ID, "appId": t.App, "host": t.Host, "state": t.State, "stagedAt": stamp(t.Staged), "version": stamp(a.version),
			"ports": []int{t.Port}, "ipAddresses": []any{map[string]any{"ipAddress": "172.17.0.2", "protocol": "IPv4"}},
		}
		if t.killed && t.State == "TASK_RUNNING" {
			info["state"] = "TASK_RUNNING" // real ones may still say so
		}
		if !t.Started.IsZero() {
			info["startedAt"] = stamp(t.Started)
		}
		if checks, _ := a.def["healthChecks"].([]any); len(checks) > 0 && t.Alive != nil {
			failures := 0
			if !*t.Alive {
				failures = 1
			}
			info["healthCheckResults"] = []any{map[string]any{"alive": *t.Alive, "consecutiveFailures": failures, "instanceId": t.ID}}
			if !*t.Alive {
				info["healthCheckResults"].([]any)[0].(map[string]any)["lastFailureCause"] = "Got 503 Service Unavailable"
			}
		}
		tasks = append(tasks, info)
	}
	out["tasks"], out["deployments"] = tasks, []any{}
	return out
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var def map[string]any
	if err := json.NewDecoder(r.Body).Decode(&def); err != nil {
		reply(w, http.StatusBadRequest, map[string]any{"message": "Invalid JSON", "details": err.Error()})
		return
	}
	id, _ := def["id"].(string)
	id = "/" + strings.TrimPrefix(id, "/")
	if s.apps[id] != nil {
		reply(w, http.StatusConflict, map[string]any{"message": "An app with id [" + id + "] already exists."})
		return
	}
	size, _ := def["instances"].(float64)
	a := &app{def: def, id: id, size: int(size), version: time.Now()}
	s.apps[id] = a
	s.posts = append(s.posts, strings.TrimPrefix(id, "/"))
	s.fill(a)
	reply(w, http.StatusCreated, s.info(a))
}

func (s *Server) killTasks(w http.ResponseWriter, r *http.Request, force bool) {
	var body struct{ Ids []string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		reply(w, http.StatusBadRequest, map[string]any{"message": "Invalid JSON", "details": err.Error()})
		return
	}
	scale := strings.EqualFold(r.URL.Query().Get("scale"), "true")
	for id, a := range s.apps {
		for _, t := range slices.Clone(a.tasks) {
			if !slices.Contains(body.Ids, t.ID) {
				continue
			}
			if s.lock[id] && !force {
				s.locked(w)
				return
			}
			if scale {
				a.size = max(a.size-1, 0)
			}
			if !t.killed {
				s.kill(a, t)
			}
		}
		s.fill(a)
	}
	reply(w, http.StatusOK, map[string]any{"version": stamp(time.Now()), "deploymentId": "d"})
}

func (s *Server) queue(w http.ResponseWriter) {
	items := []any{}
	for id, a := range s.apps {
		if missing := a.size - len(a.tasks); missing > 0 {
			items = append(items, map[string]any{"count": missing, "delay": map[string]any{"timeLeftSeconds": 0, "overdue": true}, "app": map[string]any{"id": id}})
		}
	}
	reply(w, http.StatusOK, map[string]any{"queue": items})
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		reply(w, http.StatusServiceUnavailable, map[string]any{"message": "down, as the test wants"})
		return
	}
	events := make(chan event, 1024)
	s.streams[events] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, events)
	}()
	types := r.URL.Query()["event_type"]
	w.Header().Set("Content-Type", "text/event-stream;charset=utf-8")
	flush := http.NewResponseController(w)
	_, _ = fmt.Fprint(w, "event: event_stream_attached\r\ndata: {\"eventType\":\"event_stream_attached\"}\r\n\r\n")
	_ = flush.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			if len(types) > 0 && !slices.Contains(types, e.kind) {
				continue
			}
			text, err := json.Marshal(e.data)
			if err != nil {
				panic(err) // our own maps are always JSON
			}
			if _, err := fmt.Fprintf(w, "event: %s\r\ndata: %s\r\n\r\n", e.kind, text); err != nil {
				return
			}
			_ = flush.Flush()
		}
	}
}
