// Package engine runs tasks in containers of a Docker Engine and says what
// becomes of them. Containers live on without it: it finds them again by their
// labels.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"golang.org/x/sync/singleflight"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// Options is what an Engine is made of. Every field is required but Host.
type Options struct {
	Host      string // e.g. unix:///var/run/docker.sock; "" for what DOCKER_HOST says
	Owner     string // tells our containers from those of other installations
	Sandboxes string // directory of the tasks' own directories
	Fetch     func(ctx context.Context, t core.Task, sandbox string) error
	Report    func(core.Status)        // something became of a task
	Found     func(all []core.Status)  // all of our containers: the engine answers (again)
	Down      func()                   // the engine does not answer
	Over      func(taskID string) bool // nobody needs what is left of a task
	Log       *slog.Logger
}

// An Engine is a Docker Engine that runs our tasks.
type Engine struct {
	o      Options
	ctx    context.Context // of New
	docker *daemon.Client
	pulls  singleflight.Group
	slots  chan struct{} // bounds how many containers are made at once

	down     atomic.Bool // it did not answer, and that was said
	mu       sync.Mutex
	starting map[string]context.CancelFunc // launches under way, by task
	work     sync.WaitGroup
}

// New returns an engine that acts until ctx, which is Run's too, ends.
func New(ctx context.Context, o Options) (*Engine, error) {
	c, err := daemon.New(o.Host)
	if err != nil {
		return nil, err
	}
	return &Engine{o: o, ctx: ctx, docker: c, slots: make(chan struct{}, 8), starting: map[string]context.CancelFunc{}}, nil
}

// call bounds every single call of the engine.
const call = 2 * time.Minute

// Run watches the engine until ctx ends, and then returns nil. What it has been
// asked to do is broken off; containers go on.
func (e *Engine) Run(ctx context.Context) error {
	defer e.docker.Close()
	defer e.work.Wait()
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := e.watch(ctx)
		if ctx.Err() != nil {
			break
		}
		e.o.Down()
		if time.Since(began) > 10*time.Second {
			pause = 50 * time.Millisecond
		}
		if !e.down.Swap(true) {
			e.o.Log.Warn("docker engine does not answer, will ask again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
	return nil
}

// watch tells what is there, and then what ends, until the engine goes away.
func (e *Engine) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ping, done := context.WithTimeout(ctx, 10*time.Second)
	_, err := e.docker.Ping(ping)
	done()
	if err != nil {
		return err
	}
	// The stream is opened before the list is read, so that nothing falls between.
	stream, failed := e.docker.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", "container"), filters.Arg("label", ownerLabel+"="+e.o.Owner), filters.Arg("event", "die"),
	)})
	found, err := e.list(ctx)
	if err != nil {
		return err
	}
	if e.down.Swap(false) {
		e.o.Log.Info("docker engine answers again")
	}
	e.o.Found(found)
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case m := <-stream:
			s, ok := e.inspect(ctx, m.Actor.ID)
			if !ok && ctx.Err() == nil { // somebody has removed it; the event knows what was
				s = core.Status{
					TaskID: m.Actor.Attributes[taskLabel], State: core.Failed,
					Message: "Container exited with status " + m.Actor.Attributes["exitCode"] + " and was removed",
				}
				if m.Actor.Attributes["exitCode"] == "0" {
					s.State = core.Finished
				}
			}
			if s.TaskID != "" && s.State != core.Running {
				e.o.Report(s)
			}
		case <-sweep.C:
			if err := e.sweep(ctx); err != nil {
				return err
			}
		}
	}
}

func (e *Engine) mine() filters.Args {
	return filters.NewArgs(filters.Arg("label", ownerLabel+"="+e.o.Owner))
}

// list returns the state of each of our containers that was ever started.
func (e *Engine) list(ctx context.Context) ([]core.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	list, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: e.mine()})
	if err != nil {
		return nil, err
	}
	var all []core.Status
	var idle []string
	for _, c := range list {
		if (c.State == "created" || c.State == "exited" || c.State == "dead") && !e.isStarting(c.Labels[taskLabel]) {
			idle = append(idle, c.ID)
		}
		// One that was made but not started is as if it were not there: its launch
		// is done again and replaces it.
		if c.State == "created" {
			continue
		}
		if s, ok := e.inspect(ctx, c.ID); ok {
			all = append(all, s)
		}
	}
	e.killOrphans(ctx, idle...)
	return all, nil
}

// inspect returns the state of a container's task; ok is false when there is no
// such container or it cannot be asked.
func (e *Engine) inspect(ctx context.Context, id string) (core.Status, bool) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	c, err := e.docker.ContainerInspect(ctx, id)
	if err != nil || c.ContainerJSONBase == nil || c.State == nil || c.Config == nil {
		return core.Status{}, false
	}
	s := core.Status{TaskID: c.Config.Labels[taskLabel], Handle: c.ID}
	code := &c.State.ExitCode
	switch {
	case c.State.Running || c.State.Paused || c.State.Restarting:
		s.State = core.Running
		if c.NetworkSettings != nil {
			for _, n := range c.NetworkSettings.Networks {
				s.IP = n.IPAddress
			}
		}
	case c.State.Error != "":
		s.State, s.Message = core.Failed, "Failed to run docker container: "+c.State.Error
	case c.State.ExitCode == 0:
		s.State, s.Message, s.Exit = core.Finished, "Container exited with status "+daemon.ExitText(c.State), code
	case daemon.OutOfMemory(c.State):
		s.State, s.Message, s.Exit = core.Failed, "Memory limit exceeded: the container was killed", code
	case c.State.ExitCode == daemon.LostStatus && !e.sawEnd(ctx, c.ID, c.State.StartedAt):
		s.State, s.Message = core.Failed, "Container ended while the engine was down, its exit code is lost"
	default:
		s.State, s.Message, s.Exit = core.Failed, "Container exited with status "+daemon.ExitText(c.State), code
	}
	return s, true
}

// sawEnd tells whether the engine has seen the end of a container that began at
// a time as the engine writes it. It remembers its last 256 events, and none of
// before its own start. In doubt it has.
func (e *Engine) sawEnd(ctx context.Context, id, begun string) bool {
	info, err := e.docker.Info(ctx) // its clock need not be ours
	if err != nil {
		return true
	}
	past, failed := e.docker.Events(ctx, events.ListOptions{Since: begun, Until: info.SystemTime, Filters: filters.NewArgs(
		filters.Arg("container", id), filters.Arg("event", "die"),
	)})
	select {
	case <-past:
		return true
	case err := <-failed:
		return !errors.Is(err, io.EOF)
	}
}

// Launch starts a task's container and reports how that went.
func (e *Engine) Launch(l core.Launch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return // it is launched when the process starts again
	}
	ctx, cancel := context.WithCancel(e.ctx)
	e.starting[l.Task.ID] = cancel
	e.work.Go(func() {
		defer cancel()
		s := e.launch(ctx, l)
		e.mu.Lock()
		delete(e.starting, l.Task.ID)
		stopped := e.ctx.Err() != nil
		e.mu.Unlock()
		if !stopped {
			e.o.Report(s)
		}
	})
}

func (e *Engine) launch(ctx context.Context, l core.Launch) core.Status {
	s := core.Status{TaskID: l.Task.ID}
	unreachable := func(why string) core.Status {
		// It is tried again as soon as this is known, so not too soon.
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
		s.State, s.Message = core.Unreachable, why
		return s
	}
	fail := func(state, what string, err error) core.Status {
		if client.IsErrConnectionFailed(err) {
			return unreachable(err.Error())
		}
		s.State, s.Message = state, what+": "+err.Error()
		return s
	}
	sandbox := sandboxOf(e.o.Sandboxes, l.Task.ID)
	if err := os.MkdirAll(sandbox, 0o777); err != nil {
		return fail(core.Failed, "Failed to make the sandbox", err)
	}
	if err := e.o.Fetch(ctx, l.Task, sandbox); err != nil {
		return fail(core.Failed, "Failed to fetch all URIs for container", err)
	}
	c, h, err := form(l, e.o.Owner, sandbox)
	if err != nil {
		return fail(core.Errored, "Failed to launch container", err)
	}
	if l.Task.App.Container.Docker.ForcePullImage {
		if err := e.pull(ctx, c.Image, sandbox); err != nil {
			return fail(core.Failed, "Failed to launch container", err)
		}
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return fail(core.Failed, "Failed to launch container", ctx.Err())
	}
	id, err := e.create(ctx, l.Task.ID, c, h)
	if errdefs.IsNotFound(err) && !l.Task.App.Container.Docker.ForcePullImage {
		if err = e.pull(ctx, c.Image, sandbox); err == nil {
			id, err = e.create(ctx, l.Task.ID, c, h)
		}
	}
	if err != nil {
		return fail(core.Failed, "Failed to launch container", err)
	}
	s.Handle = id
	// Not within ctx: a start that is broken off half-way is neither yes nor no.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), call)
	defer cancel()
	if err := e.docker.ContainerStart(within, id, container.StartOptions{}); err != nil {
		if !client.IsErrConnectionFailed(err) { // then the next launch replaces it
			e.remove(within, id)
		}
		if errdefs.IsNotFound(err) && h.NetworkMode.IsUserDefined() {
			err = fmt.Errorf("%w (docker network create %s makes one)", err, h.NetworkMode.UserDefined())
		}
		return fail(core.Failed, "Failed to run docker container", err)
	}
	if ctx.Err() != nil { // killed meanwhile
		if err := e.stop(within, id, 0); err != nil {
			e.o.Log.Warn("stop the container of a killed task failed", "container", id, "err", err)
		}
	}
	now, ok := e.inspect(within, id)
	if !ok {
		return unreachable("the Docker Engine has started it and does not say what became of it")
	}
	return now
}

// create makes the container. One that a broken-off launch has left is replaced,
// in whatever state it is: an engine that was killed while it started a container
// may have it run without its network, or not be able to start it any more.
func (e *Engine) create(ctx context.Context, taskID string, c *container.Config, h *container.HostConfig) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	name := containerName(taskID)
	made, err := e.docker.ContainerCreate(ctx, c, h, nil, nil, name)
	if !errdefs.IsConflict(err) {
		return made.ID, err
	}
	left, inspectErr := e.docker.ContainerInspect(ctx, name)
	if inspectErr != nil || left.Config == nil || left.Config.Labels[taskLabel] != taskID {
		return "", err // not ours
	}
	e.o.Log.Info("replacing a container that was not started all the way", "task", taskID, "container", left.ID)
	e.remove(ctx, left.ID)
	e.killOrphans(ctx, left.ID)
	made, err = e.docker.ContainerCreate(ctx, c, h, nil, nil, name)
	return made.ID, err
}

// Kill ends a task: the container's stop signal, and SIGKILL after the grace.
func (e *Engine) Kill(k core.Kill) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	if cancel := e.starting[k.TaskID]; cancel != nil {
		cancel() // the launch ends it, and reports
		return
	}
	ctx := e.ctx
	e.work.Go(func() {
		id := k.Handle
		if id == "" {
			id = containerName(k.TaskID)
		}
		ctx, cancel := context.WithTimeout(ctx, k.Grace+call)
		defer cancel()
		err := e.stop(ctx, id, k.Grace)
		if errdefs.IsNotFound(err) {
			e.o.Report(core.Status{TaskID: k.TaskID, State: core.Gone, Message: "its container is gone"})
			return
		}
		if err != nil && ctx.Err() == nil {
			e.o.Log.Warn("kill failed, will retry", "task", k.TaskID, "err", err)
		}
		if s, ok := e.inspect(ctx, id); ok && s.State != core.Running {
			e.o.Report(s)
		}
	})
}

func (e *Engine) stop(ctx context.Context, id string, grace time.Duration) error {
	timeout := seconds(grace.Seconds())
	return e.docker.ContainerStop(ctx, id, container.StopOptions{Timeout: &timeout})
}

func (e *Engine) remove(ctx context.Context, id string) {
	err := e.docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, context.Canceled) {
		e.o.Log.Warn("remove container failed", "container", id, "err", err)
	}
}
