// Package marathontest is Marathon for tests: the API and the state machine of
// paasta marathon, in memory, whose tasks do what the test says.
package marathontest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/api"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A Server is one Marathon.
type Server struct {
	*httptest.Server

	// Hosts are the addresses of its agents, and Attributes what each of them has.
	// They are set before the first call.
	Hosts      []string
	Attributes map[string]string

	hub api.Hub
	api api.Server

	mu        sync.Mutex
	machine   *core.Machine // made by the first call
	stored    map[string]any
	timer     *time.Timer // of the machine's next tick
	streaming context.Context
	stop      context.CancelFunc // of streaming
	user      string             // basic auth; "" for none
	password  string
	electing  bool // no member leads
	auto      bool
	delay     time.Duration // of kills
	down      bool
	locked    map[string]bool // apps that answer 409 without force
	calls     map[string]int

	posting sync.Mutex
	posted  []string // ids, in order
}

// A Task is one task, as the test sees it.
type Task struct {
	ID, App, Host string
	Port          int
	State         string
	Alive         *bool // nil: no result
}

// Start starts a Marathon that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Hosts: []string{"10.77.1.1", "10.77.2.1", "10.77.3.1"}, Attributes: map[string]string{"pool": "default"}, stored: map[string]any{}, locked: map[string]bool{}, calls: map[string]int{},
	}
	s.timer = time.AfterFunc(time.Hour, func() { s.do((*core.Machine).Tick) })
	s.streaming, s.stop = context.WithCancel(context.Background())
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	s.api = api.Server{
		Do:  func(_ context.Context, f func(*core.Machine, time.Time)) error { s.do(f); return nil },
		Hub: &s.hub, Check: func(*definition.App) []definition.Problem { return nil }, Ended: func() []core.Ended { return nil },
		Leader: strings.TrimPrefix(s.Leader(), "http://"), Metrics: http.NotFoundHandler(),
	}
	t.Cleanup(func() {
		s.CloseStreams()
		s.CloseClientConnections()
		s.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.timer.Stop()
	})
	return s
}

// do lets f use the machine, and does what follows.
func (s *Server) do(f func(*core.Machine, time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine == nil {
		s.lead()
	}
	f(s.machine, time.Now())
	for effects := s.machine.Effects(); len(effects) > 0; effects = s.machine.Effects() {
		for _, e := range effects {
			switch {
			case e.Launch != nil && s.auto:
				s.run(e.Launch.Task.ID)
			case e.Watch != nil && s.auto:
				s.check(e.Watch.Task.ID, true)
			case e.Kill != nil && s.delay > 0:
				time.AfterFunc(s.delay, func() { s.do(func(*core.Machine, time.Time) { s.status(e.Kill.TaskID, core.Killed) }) })
			case e.Kill != nil:
				s.status(e.Kill.TaskID, core.Killed)
			}
		}
	}
	maps.Copy(s.stored, s.machine.Changes())
	s.hub.Send(s.machine.Events())
	s.timer.Reset(time.Until(s.machine.Next(time.Now())))
}

// lead makes the machine of a new leader, which knows what is stored.
func (s *Server) lead() {
	agents := make([]core.Agent, len(s.Hosts))
	for i, host := range s.Hosts {
		agents[i] = core.Agent{
			ID: fmt.Sprintf("agent-S%d", i), Hostname: host, Address: "172.17.0.2", Attributes: s.Attributes,
			CPUs: 1000, Mem: 1 << 20, Disk: 1 << 20, PortLow: 31000, PortHigh: 32000,
		}
	}
	records := map[string]json.RawMessage{}
	for key, value := range s.stored {
		if value != nil {
			text, err := json.Marshal(value)
			if err != nil {
				panic(err) // a machine's records are JSON
			}
			records[key] = text
		}
	}
	s.machine = core.New(core.Config{
		Agents: agents, ServicePortLow: 10000, ServicePortHigh: 20000, MaxDeployments: 100, KillRetry: time.Hour, VersionsPerObject: 50,
	})
	if err := s.machine.Load(records); err != nil {
		panic(err) // it wrote them
	}
}

func (s *Server) status(taskID, state string) {
	s.machine.HandleStatus(time.Now(), core.Status{TaskID: taskID, State: state})
}

func (s *Server) run(taskID string) { s.status(taskID, core.Running) }

// check gives results to all checks of a task, after its grace period.
func (s *Server) check(taskID string, alive bool) {
	t := s.machine.Task(taskID)
	if t == nil {
		return
	}
	for i, h := range t.App.HealthChecks {
		at := time.Now()
		if grace := t.StartedAt.Add(time.Duration(h.GracePeriodSeconds) * time.Second); !alive && at.Before(grace) {
			at = grace
		}
		s.machine.HandleResult(at, core.Result{TaskID: taskID, Index: i, OK: alive, Cause: "Got 503 Service Unavailable"})
	}
	s.machine.HandleReadiness(time.Now(), core.Readiness{TaskID: taskID, Ready: alive})
}

// Run lets a task run.
func (s *Server) Run(taskID string) { s.do(func(*core.Machine, time.Time) { s.run(taskID) }) }

// Healthy gives a task a health check result.
func (s *Server) Healthy(taskID string, alive bool) {
	s.do(func(*core.Machine, time.Time) { s.check(taskID, alive) })
}

// Fail ends a task; Marathon starts another at once.
func (s *Server) Fail(taskID string) {
	s.do(func(m *core.Machine, now time.Time) {
		s.status(taskID, core.Failed)
		m.ResetDelay(now, core.AppOfTask(taskID))
	})
}

// ForgetResults drops all health check results, as a new leader begins.
func (s *Server) ForgetResults() { s.do(func(*core.Machine, time.Time) { s.lead() }) }

// set changes what the server does.
func (s *Server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Auto makes tasks run and pass their checks as soon as they start.
func (s *Server) Auto(on bool) { s.set(func() { s.auto = on }) }

// KillDelay is how long a killed task stays listed.
func (s *Server) KillDelay(d time.Duration) { s.set(func() { s.delay = d }) }

// Down makes every call fail with 503.
func (s *Server) Down(down bool) {
	s.set(func() { s.down = down })
	if down {
		s.CloseStreams()
	}
}

// Lock makes changes of an app answer 409 unless they are forced.
func (s *Server) Lock(appID string, locked bool) { s.set(func() { s.locked["/"+appID] = locked }) }

// CloseStreams ends all event streams, as a Marathon does that loses its lead.
func (s *Server) CloseStreams() {
	s.set(func() {
		s.stop()
		s.streaming, s.stop = context.WithCancel(context.Background())
	})
}

// Apps lists the ids of the apps, sorted, without the slash.
func (s *Server) Apps() (ids []string) {
	s.do(func(m *core.Machine, _ time.Time) {
		for _, id := range m.Apps("/") {
			ids = append(ids, id[1:])
		}
	})
	return ids
}

// Definition returns an app's definition as JSON; nil if there is none.
func (s *Server) Definition(appID string) (doc map[string]any) {
	s.do(func(m *core.Machine, _ time.Time) {
		if a := m.App("/" + appID); a != nil {
			text, err := json.Marshal(a)
			if err != nil || json.Unmarshal(text, &doc) != nil {
				panic(err) // a definition is JSON
			}
		}
	})
	return doc
}

// Size returns an app's size, -1 when there is none.
func (s *Server) Size(appID string) int {
	size := -1
	s.do(func(m *core.Machine, _ time.Time) {
		if a := m.App("/" + appID); a != nil {
			size = a.Instances
		}
	})
	return size
}

// Posted lists the ids of all apps that were ever created, in order.
func (s *Server) Posted() []string {
	s.posting.Lock()
	defer s.posting.Unlock()
	return slices.Clone(s.posted)
}

// Calls counts the calls of a method and path so far, e.g. "POST /v2/apps".
func (s *Server) Calls(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// Tasks lists the tasks of an app, or of all with "", oldest first.
func (s *Server) Tasks(appID string) (tasks []Task) {
	if appID != "" {
		appID = "/" + appID
	}
	s.do(func(m *core.Machine, _ time.Time) {
		views := m.Tasks(appID)
		slices.SortStableFunc(views, func(a, b core.TaskView) int { return strings.Compare(a.StagedAt, b.StagedAt) })
		for _, v := range views {
			t := Task{ID: v.ID, App: v.AppID, Host: v.Host, State: v.State}
			if len(v.Ports) > 0 {
				t.Port = v.Ports[0]
			}
			if len(v.HealthCheckResults) > 0 {
				t.Alive = &v.HealthCheckResults[0].Alive
			}
			tasks = append(tasks, t)
		}
	})
	return tasks
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.refused(w, r) {
		return
	}
	to := path.Clean("/" + r.URL.Path)
	s.mu.Lock()
	s.calls[r.Method+" "+to]++
	down, streaming := s.down, s.streaming
	s.mu.Unlock()
	switch {
	case down:
		reply(w, http.StatusServiceUnavailable, map[string]any{"message": "down, as the test wants"})
		return
	case to == "/v2/events":
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(streaming, cancel)()
		r = r.WithContext(ctx)
	case s.isLocked(to, r):
		reply(w, http.StatusConflict, map[string]any{
			"message":     "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
			"deployments": []any{map[string]any{"id": "97c136bf-5a28-4821-9d94-480d9fbb01c8"}},
		})
		return
	}
	if r.Method != http.MethodPost || to != "/v2/apps" {
		s.api.ServeHTTP(w, r)
		return
	}
	// Whoever sees the app sees that it was posted.
	s.posting.Lock()
	defer s.posting.Unlock()
	s.api.ServeHTTP(w, r)
	if id := w.Header().Get("Location"); id != "" {
		s.posted = append(s.posted, id[1:])
	}
}

// isLocked tells whether a call would change a locked app and has no force.
func (s *Server) isLocked(to string, r *http.Request) bool {
	ids := []string{strings.TrimPrefix(to, "/v2/apps")}
	if to == "/v2/tasks/delete" {
		text, err := io.ReadAll(r.Body)
		var body struct{ IDs []string }
		if err != nil || json.Unmarshal(text, &body) != nil {
			return false
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		for _, id := range body.IDs {
			ids = append(ids, core.AppOfTask(id))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.Method != http.MethodGet && r.Method != http.MethodDelete && !strings.EqualFold(r.URL.Query().Get("force"), "true") &&
		slices.ContainsFunc(ids, func(id string) bool { return s.locked[id] })
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
