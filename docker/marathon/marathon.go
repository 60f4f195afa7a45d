// Package marathon is `paasta marathon`: Marathon's v2 API on one machine. Apps
// with an image run in containers of a Docker Engine, apps with only a cmd as
// processes of the host, spread over virtual agents that each have an address of
// their own, so that constraints and spreading mean something on a laptop. A
// cluster runs the real Marathon on Mesos instead.
//
// It speaks the dialect of Marathon 1.5 to 1.7 and takes that of every older
// version. State is in one directory and survives kill -9; containers and
// processes live on without it and are adopted, never restarted.
//
// Where it differs from Marathon, on purpose:
//
//   - Pods, secrets, GPUs, persistent and external volumes do not exist; asking
//     for them is a 422. So is an option of "docker run" in
//     container.docker.parameters that the Engine API cannot express, and one
//     that would take the container out of our hands (name, rm, restart, …).
//   - Health checks probe often until a task is healthy for the first time, so it
//     is seen at once; and the default delaySeconds of 15 is not waited for.
//     MESOS_HTTP and MESOS_TCP checks go to the task's host port as the others
//     do, not into its network namespace.
//   - Sizes are corrected at once, not by a sweep every five minutes.
//   - Apps without the label paasta_service get PORT0, HOST, … both with and
//     without the prefix of --env-vars-prefix; PaaSTA's own only with it.
//   - While the Docker Engine does not answer, tasks are TASK_UNREACHABLE and
//     nothing is replaced.
//   - cpus and mem of processes count for the placement and do not bound them.
//
// Besides Marathon's it has calls of its own:
//
//	GET /paasta/tasks/{taskID}/logs?stream=stdout|stderr|all&lines=N&follow=true
//	    a task's output as newline-delimited JSON:
//	    {"timestamp":"2020-02-01T10:00:00.123Z","stream":"stdout","message":"…"}
//	    (404 for an unknown task; of one that has ended, the end of its output is
//	    kept for a week, within bounds: see package ended).
//	GET /paasta/tasks?service=S&instance=I
//	    {"tasks":[{"id","app_id","host","service","instance","git_sha","version",
//	    "state","message","exit_code","started","ended","process",
//	    "handle"}]}: the tasks that
//	    have ended and whose output is kept, oldest first.
//	GET /paasta/agents
//	    {"agents":[{"id","hostname","address","attributes","cpus","mem","disk",
//	    "port_low","port_high","tasks":[{"id","app_id","host","port","ports",
//	    "state","ip","service","instance"}]}]}: the virtual agents, and what runs
//	    on them now.
package marathon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/marathon/internal/api"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/ended"
	"github.com/gopaasta/paasta/docker/marathon/internal/engine"
	"github.com/gopaasta/paasta/docker/marathon/internal/fetch"
	"github.com/gopaasta/paasta/docker/marathon/internal/probe"
	"github.com/gopaasta/paasta/docker/marathon/internal/process"
	"github.com/gopaasta/paasta/docker/marathon/internal/store"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/rungroup"
)

// Options is what a paasta marathon is made of.
type Options struct {
	Listener   net.Listener // serves the API; Run closes it
	StateDir   string       // apps, tasks, sandboxes, output of ended tasks; only one process may use it
	Agents     []Agent      // at least one
	DockerHost string       // e.g. unix:///var/run/docker.sock; "" for what DOCKER_HOST says
	EnvPrefix  string       // of HOST, PORT0, … in the tasks' environment
	Token      string       // wanted for what changes something; "": whoever connects may
	Names      []string     // of this host, that requests may name besides its addresses
	Log        *slog.Logger
}

// Run runs paasta marathon until ctx ends, and then returns nil once every part
// has stopped. Tasks go on.
func Run(ctx context.Context, o Options) error {
	defer o.Listener.Close()
	dir, err := filepath.Abs(o.StateDir)
	if err != nil {
		return err
	}
	st, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer st.Close()
	addresses := addresses{dir: dir, log: o.Log}
	if err := addresses.add(ctx, o.Agents); err != nil {
		return err
	}
	m := core.New(core.Config{
		Agents: coreAgents(o.Agents), EnvPrefix: o.EnvPrefix, ServicePortLow: 10000, ServicePortHigh: 20000, MaxDeployments: 100,
		DefaultGrace: 5 * time.Second, KillRetry: 30 * time.Second, VersionsPerObject: 50,
	})
	if err := m.Load(st.Records()); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	g, ctx := rungroup.WithContext(ctx)
	s, err := newServer(ctx, o, dir, m, st)
	if err != nil {
		return err
	}
	g.Go("owner of the state", s.own)
	g.Go("docker engine", s.engine.Run)
	g.Go("processes", s.process.Run)
	g.Go("ended tasks", s.keep)
	srv := &http.Server{Handler: api.Guard{Token: o.Token, Names: o.Names}.Handler(s.api), ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	g.Go("http server", httpserver.Serve(o.Listener, srv, 3*time.Second))
	if o.Token == "" {
		o.Log.Warn("no token is set: whoever can connect runs what they like as the user of this process", "addr", o.Listener.Addr().String())
	}
	o.Log.Info("marathon started", "addr", o.Listener.Addr().String(), "path", dir, "agents", len(o.Agents))
	err = g.Wait()
	s.probe.Wait()
	addresses.remove(context.WithoutCancel(ctx), m.Tasks(""))
	o.Log.Info("marathon stopped")
	return err
}

// A server brings the machine together with what acts for it.
type server struct {
	log     *slog.Logger
	machine *core.Machine // of own
	store   *store.Store  // of own
	hub     *api.Hub
	engine  *engine.Engine
	process *process.Runner
	probe   *probe.Prober
	ended   *ended.Ring
	unkept  chan struct{} // wakes keep
	inputs  chan input
	ctx     context.Context // of Run
	api     *api.Server

	unstored map[string]any // changes that could not be stored yet
	counters counters       // of own
	began    time.Time
}

func newServer(ctx context.Context, o Options, dir string, m *core.Machine, st *store.Store) (*server, error) {
	s := &server{
		log: o.Log, machine: m, store: st, hub: &api.Hub{}, inputs: make(chan input, 256), ctx: ctx, unstored: map[string]any{},
		counters: newCounters(), began: time.Now(), unkept: make(chan struct{}, 1),
	}
	owner := m.FrameworkID()
	var err error
	if s.ended, err = ended.Open(filepath.Join(dir, "ended"), o.Log); err != nil {
		return nil, err
	}
	s.engine, err = engine.New(ctx, engine.Options{
		Host: o.DockerHost, Owner: owner, Sandboxes: filepath.Join(dir, "containers"), Fetch: fetch.All, Report: s.report,
		Found: func(all []core.Status) {
			s.tell(func(now time.Time) { m.Recovered(now, false, all) })
		},
		Down: func() { s.tell(m.EngineDown) }, Over: s.over, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	s.process = process.New(ctx, process.Options{
		Sandboxes: filepath.Join(dir, "processes"), Fetch: fetch.All, Report: s.report,
		Found: func(all []core.Status) {
			s.tell(func(now time.Time) { m.Recovered(now, true, all) })
		},
		Log: o.Log,
	})
	s.probe = probe.New(probe.Options{
		Exec: func(ctx context.Context, t core.Task, command string) error {
			if t.Process() {
				return s.process.Exec(ctx, t.ID, command, core.Env(&t, o.EnvPrefix))
			}
			err := s.engine.Exec(ctx, t.Handle, command)
			if errors.Is(err, daemon.ErrUnavailable) { // its tasks may be well
				return fmt.Errorf("%w: %w", probe.ErrUnknown, err)
			}
			return err
		},
		Result:    func(r core.Result) { s.tell(func(now time.Time) { m.HandleResult(now, r) }) },
		Readiness: func(r core.Readiness) { s.tell(func(now time.Time) { m.HandleReadiness(now, r) }) },
	})
	s.api = &api.Server{
		Do: s.do, Hub: s.hub, Check: engine.Check, Logs: s.logs, Ended: s.ended.List, Leader: o.Listener.Addr().String(), Stop: ctx.Done(),
		Metrics: http.HandlerFunc(s.metrics),
	}
	return s, nil
}

// report takes what a runner says of a task.
func (s *server) report(status core.Status) {
	s.tell(func(now time.Time) { s.machine.HandleStatus(now, status) })
}
