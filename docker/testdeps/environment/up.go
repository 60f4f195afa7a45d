package environment

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/gopaasta/paasta/docker/forward"
	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// Options say what environment is wanted.
type Options struct {
	SoaDir  string // soa-configs
	Service string // whose test dependencies
	// Dir is the service's repository, from which fixtures and builds are taken;
	// default: the current directory.
	Dir    string
	System sysconfig.Config
	Name   string        // default: the service and something random
	Tied   bool          // of no use when this process has ended
	Keep   time.Duration // how long it may stay; default 12 h
	// Report is told of every change, one at a time; nil for nobody.
	Report func(Change)
	Output io.Writer // of builds; nil for nobody
	// Through connects as the engine's machine does, for engines whose ports this
	// one cannot reach; default: ssh for those that are reached by it. With Tied
	// the ports are handed through it to this machine's loopback.
	Through forward.Dialer
	Inside  bool // used by containers of the environment alone: no port has to be reached from here
	// Self says that this program is paasta, which can be the gateway itself.
	Self bool
}

// defaultKeep is longer than a working day's afternoon.
const defaultKeep = 12 * time.Hour

// Up makes an environment and returns it once all of it is ready. It first
// removes environments that are of no use any more. When something does not come
// up, or ctx ends, it removes what it has made; the error is a *Failure when a
// dependency is to blame.
func (e *Engine) Up(ctx context.Context, o Options) (*Environment, error) {
	u, err := e.plan(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := e.docker.Watch(ctx)
	defer stop()
	x, err := u.up(ctx)
	if err != nil {
		if down := u.x.Down(ctx); down != nil {
			err = fmt.Errorf("%w\nand then: %w", err, down)
		}
		if cause := context.Cause(ctx); cause != nil && !isFailure(err) {
			err = cause
		}
		return nil, err
	}
	return x, nil
}

func isFailure(err error) bool {
	var f *Failure
	return errors.As(err, &f)
}

// nameable is what Docker takes as part of a container's name.
var nameable = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,59}$`)

// plan reads soa-configs.
func (e *Engine) plan(o Options) (*up, error) {
	if o.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		o.Dir = dir
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if o.Report == nil {
		o.Report = func(Change) {}
	}
	if o.Output == nil {
		o.Output = io.Discard
	}
	g, err := graph.Build(o.Service, loader(o.SoaDir))
	if err != nil {
		return nil, err
	}
	if len(g.Nodes) > most {
		return nil, fmt.Errorf("%s has %d test dependencies, with theirs: an environment can hold %d", o.Service, len(g.Nodes), most)
	}
	if len(g.Nodes) == 0 {
		g.Notes = append(g.Notes, fmt.Sprintf("%s declares no test dependencies: %s is not there, or empty", o.Service, filepath.Join(g.Service.Dir, "test-dependencies.yaml")))
	}
	if o.Name != "" && !nameable.MatchString(o.Name) {
		return nil, command.UsageError{Err: fmt.Errorf("an environment cannot be called %q: want letters, digits, dots, dashes and underscores, and no more than 60", o.Name)}
	}
	name := cmp.Or(o.Name, strings.ToLower(o.Service+"-"+rand.Text()[:6]))
	now := time.Now()
	x := &Environment{
		Name: name, Service: o.Service, Dir: o.Dir, Created: now, Until: now.Add(cmp.Or(o.Keep, defaultKeep)), Notes: g.Notes,
		engine: e, id: rand.Text(), owner: owner(), tied: o.Tied, Dependencies: []Dependency{},
	}
	u := &up{
		e: e, o: o, g: g, x: x, began: now, placed: make(chan struct{}), gatewayUp: make(chan struct{}),
		ready: map[*graph.Node]chan struct{}{}, called: map[*graph.Node][]string{}, index: map[*graph.Node]int{}, ended: map[*graph.Node]<-chan error{},
	}
	for n, node := range g.Nodes {
		u.ready[node], u.index[node] = make(chan struct{}), n
	}
	for _, edge := range g.Needs {
		u.called[edge.To] = append(u.called[edge.To], edge.Name)
	}
	return u, nil
}

// An up is the making of one environment.
type up struct {
	e     *Engine
	o     Options
	g     *graph.Graph
	x     *Environment
	began time.Time

	layout    layout
	place     place
	placed    chan struct{} // closed when these two, and starts, are there: there is a network
	index     map[*graph.Node]int
	called    map[*graph.Node][]string // how the service itself calls it
	ready     map[*graph.Node]chan struct{}
	gatewayUp chan struct{}

	// starts bounds how many containers start at once. A start is CPU time of the
	// engine's, as a rule: all at once, each takes as long as all together.
	starts chan struct{}

	reporting sync.Mutex
	mu        sync.Mutex                   // of the following
	ended     map[*graph.Node]<-chan error // gets a value when the container ends
}

func (u *up) report(n *graph.Node, state, detail string) {
	u.reporting.Lock()
	defer u.reporting.Unlock()
	u.o.Report(Change{n.Name, state, detail, time.Since(u.began)})
}

func (u *up) up(ctx context.Context) (*Environment, error) {
	trees := make(chan treeOrError, 1)
	go func() {
		t, err := soaconfig.Load(ctx, u.o.SoaDir, soaconfig.Options{})
		trees <- treeOrError{t, err}
	}()
	// What can be found out is found out while the network is made.
	started, starting := errgroup.WithContext(ctx)
	started.Go(func() error { return u.settle(starting) })
	for _, n := range u.g.Nodes {
		started.Go(func() error {
			err := u.node(starting, n)
			if err != nil {
				err = u.failed(starting, n, err)
			}
			return err
		})
	}
	started.Go(func() error {
		if err := u.gateway(starting, trees); err != nil {
			return fmt.Errorf("the gateway of %s: %w", u.x.Name, err)
		}
		return nil
	})
	if err := started.Wait(); err != nil {
		return nil, err
	}
	for _, n := range u.g.Nodes {
		select {
		case err := <-u.ended[n]: // while others were coming up
			return nil, u.failed(ctx, n, err)
		default:
		}
	}
	// The name says that up got to its end; labels cannot be changed.
	renaming, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	if err := u.e.docker.ContainerRename(renaming, u.x.gateway, containerName(u.x.Name, gatewayName)); err != nil {
		return nil, explain(err)
	}
	u.x.complete = true
	if !u.o.Inside {
		if err := u.reach(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(u.x.Dependencies, func(a, b Dependency) int { return cmp.Compare(a.Name, b.Name) })
	return u.x, nil
}

// settle makes the network, says so to all who wait for it, and then removes
// environments that are of no use any more.
func (u *up) settle(ctx context.Context) error {
	labels := map[string]string{
		nameLabel: u.x.Name, idLabel: u.x.id, serviceLabel: u.x.Service, dirLabel: u.x.Dir, ownerLabel: u.x.owner,
		tiedLabel: strconv.FormatBool(u.x.tied), untilLabel: strconv.FormatInt(u.x.Until.Unix(), 10),
	}
	cpus, err := u.e.cpus(ctx)
	if err != nil {
		return err
	}
	id, l, err := u.claim(ctx, labels)
	if err != nil {
		return err
	}
	bind := "127.0.0.1"
	if u.e.docker.Host() != bind {
		bind = "" // elsewhere: any address of the engine's
	}
	u.x.network, u.x.Subnet, u.layout = id, l.subnet.String(), l
	u.place = place{
		name: u.x.Name, network: id, labels: labels, bind: bind, local: u.e.docker.Local(), near: near(l),
		address: func(n *graph.Node) netip.Addr { return l.dependency(u.index[n]) },
	}
	u.starts = make(chan struct{}, cpus)
	close(u.placed)
	did, err := u.e.sweep(ctx, u.x)
	if err != nil {
		did = append(did, "old environments stay for now: "+err.Error())
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.x.Notes = append(u.x.Notes, did...)
	return nil
}

// near tells whether this machine is in the network, as the engine's own is.
func near(l layout) bool {
	addresses, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addresses, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr() == l.engine()
	})
}

type treeOrError struct {
	tree *soaconfig.Tree
	err  error
}

// logged is how many lines of a log a Failure has.
const logged = 20

// failed makes a Failure of what went wrong with a node.
func (u *up) failed(ctx context.Context, n *graph.Node, err error) error {
	if ctx.Err() != nil {
		return context.Canceled // something else has failed before, or nobody wants it any more
	}
	f := &Failure{Environment: u.x.Name, Dependency: n.Name, Err: explain(err)}
	u.mu.Lock()
	at := slices.IndexFunc(u.x.Dependencies, func(d Dependency) bool { return d.Name == n.Name })
	var id string
	if at >= 0 {
		id = u.x.Dependencies[at].Container
	}
	u.mu.Unlock()
	var build *buildError
	switch {
	case id != "":
		f.Log = u.e.lastLines(ctx, id, logged)
	case errors.As(err, &build):
		f.Log = build.lines
	}
	u.report(n, "failed", "")
	return f
}

// node brings one dependency up. All that does not need others is done before
// they are waited for.
func (u *up) node(ctx context.Context, n *graph.Node) error {
	r := resolver{system: u.o.System, dir: u.o.Dir, output: u.o.Output, report: func(state, detail string) { u.report(n, state, detail) }}
	t, err := r.target(ctx, n)
	if err != nil {
		return err
	}
	if err := u.e.fetch(ctx, t, r.report); err != nil {
		return err
	}
	d, ended, err := u.run(ctx, n, t)
	if err != nil {
		return err
	}
	if d.HostPort, err = u.e.hostPort(ctx, d.Container, d.Port, len(d.Called) > 0); err != nil {
		return err
	}
	if err := u.waitReady(ctx, n, d.Container, ended); err != nil {
		return err
	}
	d.State = "running"
	u.mu.Lock()
	u.ended[n] = ended
	for i := range u.x.Dependencies {
		if u.x.Dependencies[i].Name == d.Name {
			u.x.Dependencies[i] = d
		}
	}
	u.mu.Unlock()
	u.report(n, "ready", "")
	close(u.ready[n])
	return nil
}

// startSlot waits until one of the starts that may happen at once is free; give
// it back by calling done, which may be called twice.
func (u *up) startSlot(ctx context.Context) (done func(), err error) {
	select {
	case <-u.placed:
	case <-ctx.Done():
		return func() {}, context.Canceled
	}
	select {
	case u.starts <- struct{}{}:
		return sync.OnceFunc(func() { <-u.starts }), nil
	case <-ctx.Done():
		return func() {}, context.Canceled
	}
}

// run makes and starts a node's container, when there is a slot and what it
// needs is ready; ended gets one value when the container ends.
func (u *up) run(ctx context.Context, n *graph.Node, t target) (d Dependency, ended <-chan error, err error) {
	free, err := u.startSlot(ctx)
	if err != nil {
		return d, nil, err
	}
	defer func() { free() }()
	f, err := form(n, t, u.o.System, u.place, u.called[n])
	if err != nil {
		return d, nil, err
	}
	id, err := u.create(ctx, containerName(u.x.Name, n.Name), f)
	if err != nil {
		return d, nil, fmt.Errorf("make its container from %s: %w", t.ref, err)
	}
	d = Dependency{Name: n.Name, Called: u.called[n], Image: t.ref, Container: id, State: "created", Port: n.Port(), scheme: scheme(n)}
	u.mu.Lock()
	u.x.Dependencies = append(u.x.Dependencies, d)
	u.mu.Unlock()
	if err := u.files(ctx, n, id); err != nil {
		return d, nil, err
	}
	if len(n.Needs) > 0 {
		free()
		if err := u.needs(ctx, n); err != nil {
			return d, nil, err
		}
		if free, err = u.startSlot(ctx); err != nil {
			return d, nil, err
		}
	}
	u.report(n, "starting", "")
	ended, err = u.start(ctx, id)
	return d, ended, err
}

// needs waits for what a node needs.
func (u *up) needs(ctx context.Context, n *graph.Node) error {
	var names []string
	for _, e := range n.Needs {
		names = append(names, e.To.Name)
	}
	u.report(n, "waiting", "for "+strings.Join(names, ", "))
	for _, e := range n.Needs {
		select {
		case <-u.ready[e.To]:
		case <-ctx.Done():
			return context.Canceled
		}
	}
	select {
	case <-u.gatewayUp:
		return nil
	case <-ctx.Done():
		return context.Canceled
	}
}

// create makes a container, in ctx or not at all: one that is being made when
// ctx ends would be nobody's.
func (u *up) create(ctx context.Context, name string, f formed) (string, error) {
	if ctx.Err() != nil {
		return "", context.Canceled
	}
	limited, cancel := within(ctx, call)
	defer cancel()
	made, err := u.e.docker.ContainerCreate(limited, f.config, f.host, f.network, nil, name)
	if err != nil {
		return "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.x.containers = append(u.x.containers, made.ID)
	return made.ID, nil
}

// start starts a container; ended gets one value when it ends.
func (u *up) start(ctx context.Context, id string) (ended <-chan error, err error) {
	if ctx.Err() != nil {
		return nil, context.Canceled
	}
	limited, cancel := within(ctx, call)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err = u.e.docker.ContainerStart(limited, id, container.StartOptions{})
		// Docker picks a free port, and somebody else may be faster.
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "port is already allocated") && !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start its container: %w", err)
	}
	over := make(chan error, 1)
	go func() {
		exited, failed := u.e.docker.ContainerWait(ctx, id, container.WaitConditionNotRunning)
		select {
		case s := <-exited:
			over <- errors.New("it ended with " + u.e.ending(ctx, id, int(s.StatusCode)))
		case err := <-failed:
			if ctx.Err() == nil {
				over <- explain(err)
			}
		}
	}()
	return over, nil
}

// ending describes how a container ended.
func (e *Engine) ending(ctx context.Context, id string, status int) string {
	ctx, cancel := within(ctx, 10*time.Second)
	defer cancel()
	state := daemon.ExitState(ctx, e.docker, id, status)
	text := "exit code " + daemon.ExitText(state)
	if daemon.OutOfMemory(state) {
		text += ": it was killed because it wanted more memory than its mem in soa-configs"
	}
	return text
}

// hostPort asks where a port was published.
func (e *Engine) hostPort(ctx context.Context, id string, inside int, wanted bool) (int, error) {
	if inside == 0 || !wanted {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	c, err := e.docker.ContainerInspect(ctx, id)
	if err != nil {
		return 0, err
	}
	for port, bound := range c.NetworkSettings.Ports {
		if port.Int() != inside {
			continue
		}
		for _, b := range bound {
			if n, err := strconv.Atoi(b.HostPort); err == nil {
				return n, nil
			}
		}
	}
	return 0, nil // it has ended meanwhile, and that is what is said
}
