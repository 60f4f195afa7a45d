package localrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/internal/option"
	"github.com/gopaasta/paasta/paasta/process"
)

// An Engine is the Docker engine that DOCKER_HOST and its companions name.
type Engine struct {
	docker  *daemon.Client
	through dialer // to the engine's machine, when ssh leads there; or nil
}

// Dial returns the engine of the environment once it has answered.
func Dial(ctx context.Context) (*Engine, error) {
	c, err := daemon.Dial(ctx, "")
	if err != nil {
		return nil, err
	}
	through, err := daemon.Through(os.Getenv("DOCKER_HOST"))
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Engine{c, through}, nil
}

// Through connects to addresses as the engine's machine sees them. It is nil
// unless the engine is reached by ssh: then no port is published there, and
// whoever wants one here hands it through.
func (e *Engine) Through() func(ctx context.Context, network, address string) (net.Conn, error) {
	return e.through
}

// Close lets go of its connections.
func (e *Engine) Close() error { return e.docker.Close() }

// Address is the engine's, as DOCKER_HOST has it.
func (e *Engine) Address() string { return e.docker.DaemonHost() }

// Local tells whether the engine shares this machine's files.
func (e *Engine) Local() bool { return e.docker.Local() }

// Options say how a Spec is run. Out, Err and Say are required.
type Options struct {
	In       io.Reader // for a shell
	Out, Err io.Writer // what the service says
	// Say tells a person how it goes, a line at a time.
	Say func(format string, args ...any)
	// Dial connects to the container; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	NoHealthcheck   bool
	HealthcheckOnly bool // stop once the health check has passed or failed
	// FixedPort says that another port than the Spec's is no help.
	FixedPort bool
	// Started is called once the container runs, with the address of its port
	// as Dial understands it; nil, or "", when it has none.
	Started func(address string)
}

const (
	callTimeout = time.Minute      // of one call of the engine
	stopGrace   = 10 * time.Second // between SIGTERM and SIGKILL
	lastLines   = 50               // of the log that are shown of a failure
)

// Run runs a Spec until its process ends, or ctx does, and removes the
// container whatever happens. It returns the container's exit status. With
// HealthcheckOnly it returns 0 once healthy. A container that is not healthy
// in time is ErrUnhealthy; it is stopped.
func (e *Engine) Run(ctx context.Context, s Spec, o Options) (status int, err error) {
	if o.Dial == nil {
		o.Dial = e.through
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if err := e.removeLeft(ctx, o.Say); err != nil {
		return 0, daemon.Explain(err)
	}
	if err := e.dropMissingVolumes(&s, o.Say); err != nil {
		return 0, err
	}
	defer e.remove(context.WithoutCancel(ctx), s.Name, o.Say)
	if err := e.start(ctx, &s, o); err != nil {
		return 0, err
	}
	// From here on nothing may be heard of the engine for hours.
	watched, stop := e.docker.Watch(ctx)
	defer stop()
	if s.TTY {
		return e.attach(watched, s, o)
	}
	return e.watch(watched, s, o)
}

// start creates the container and starts it. When the port is taken and nobody
// insists on it, it takes another.
func (e *Engine) start(ctx context.Context, s *Spec, o Options) error {
	for attempt := 0; ; attempt++ {
		err := e.create(ctx, *s)
		if err == nil && !s.TTY { // a shell is attached to first
			err = e.startCreated(ctx, s.Name)
		}
		if err == nil {
			return nil
		}
		err = explain(err, *s)
		var taken *PortTakenError
		if ctx.Err() != nil || !errors.As(err, &taken) {
			return err
		}
		taken.By = e.publisher(ctx, s.Port)
		if o.FixedPort || attempt == 3 {
			return err
		}
		e.remove(context.WithoutCancel(ctx), s.Name, o.Say)
		old := s.Port
		if s.Port, err = FreePort(0); err != nil {
			return err
		}
		o.Say("Port %d is in use; taking %d", old, s.Port)
		s.renumber(old)
	}
}

// renumber changes the environment to the new port.
func (s *Spec) renumber(old int) {
	s.Env = maps.Clone(s.Env)
	for _, key := range []string{"MARATHON_PORT", "MARATHON_PORT0", "MARATHON_PORTS", "MARATHON_PORT_" + strconv.Itoa(s.Container)} {
		if s.Env[key] == strconv.Itoa(old) {
			s.Env[key] = strconv.Itoa(s.Port)
		}
	}
}

func (e *Engine) create(ctx context.Context, s Spec) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, h, err := e.config(s)
	if err != nil {
		return err
	}
	_, err = e.docker.ContainerCreate(ctx, c, h, nil, nil, s.Name)
	return err
}

func (e *Engine) startCreated(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return e.docker.ContainerStart(ctx, name, container.StartOptions{})
}

// config is what the Docker Engine is asked for.
func (e *Engine) config(s Spec) (*container.Config, *container.HostConfig, error) {
	c := &container.Config{
		Image: s.Image, Entrypoint: s.Entrypoint, Cmd: s.Cmd, Labels: maps.Clone(s.Labels),
		Tty: s.TTY, OpenStdin: s.TTY, StdinOnce: s.TTY, AttachStdin: s.TTY, AttachStdout: s.TTY, AttachStderr: s.TTY,
	}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		value := s.Env[k]
		if secret, ok := s.secret[k]; ok {
			value = secret
		}
		c.Env = append(c.Env, k+"="+value)
	}
	h := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.Network),
		ExtraHosts:  slices.Clone(s.Hosts),
		Resources:   container.Resources{Memory: int64(s.memMB * (1 << 20))},
		LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "20m", "max-file": "2"}},
	}
	for _, p := range s.Options {
		if err := option.Apply(p.Key, p.Value, c, h); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.Image, err)
		}
	}
	// After the options: a label of ours is not for soa-configs to change.
	c.Labels[ownerLabel] = process.Self()
	if h.MemorySwap > 0 {
		h.MemorySwap = max(h.MemorySwap, h.Memory)
	}
	if s.Publish {
		port := nat.Port(strconv.Itoa(s.Container) + "/tcp")
		if c.ExposedPorts == nil {
			c.ExposedPorts = nat.PortSet{}
		}
		c.ExposedPorts[port] = struct{}{}
		// A machine of one's own serves only oneself; one elsewhere has to be reached.
		at := "127.0.0.1"
		if host := e.docker.Host(); host != "127.0.0.1" && host != "localhost" {
			at = ""
		}
		if e.through == nil {
			h.PortBindings = nat.PortMap{port: {{HostIP: at, HostPort: strconv.Itoa(s.Port)}}}
		}
	}
	for _, v := range s.Volumes {
		// A mount, not a "bind": the engine would make a directory of what is missing.
		h.Mounts = append(h.Mounts, mount.Mount{
			Type: mount.TypeBind, Source: v.HostPath, Target: mounted(v.ContainerPath), ReadOnly: strings.EqualFold(v.Mode, "RO"),
		})
	}
	return c, h, nil
}

// steady is how long a service without a health check has to run for one that
// wants to know whether it is well: what ends at once is not.
const steady = 3 * time.Second

// watch shows what a running container says, checks its health, and waits for
// its end.
func (e *Engine) watch(ctx context.Context, s Spec, o Options) (int, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, failed := e.docker.ContainerWait(inner, s.Name, container.WaitConditionNotRunning)
	address, shown, err := e.address(inner, s)
	if err != nil {
		return 0, err
	}
	if o.Started != nil {
		o.Started(address)
	}
	if s.Publish && !o.HealthcheckOnly {
		o.Say("Port %d of your service is %s here", s.Container, shown)
	}
	var logged chan error
	if !o.HealthcheckOnly {
		logged = make(chan error, 1)
		go func() { logged <- e.logs(inner, s.Name, "all", true, o.Out, o.Err) }()
	}
	var health chan error
	switch {
	case s.Check == nil && !o.NoHealthcheck && o.HealthcheckOnly:
		o.Say("%s has no health check: it has to run for %s", s.Name, steady)
		health = make(chan error, 1)
		go func() {
			if e.stays(inner, s.Name) {
				health <- nil
			}
		}()
	case s.Check == nil && !o.NoHealthcheck:
		o.Say("%s has no health check", s.Name)
	case s.Check != nil && !o.NoHealthcheck:
		ask, what := e.over(*s.Check, s.Name, address, shown, o.Dial)
		health = make(chan error, 1)
		go func() { health <- await(inner, *s.Check, what, ask, o.Say) }()
	}
	for {
		select {
		case err := <-health:
			health = nil
			switch {
			case ctx.Err() != nil:
				return 0, context.Cause(ctx)
			case err != nil:
				if o.HealthcheckOnly {
					e.tell(ctx, s.Name, o)
				}
				return 0, err
			case o.HealthcheckOnly:
				return 0, nil
			}
			o.Say("Your service is now running! Tailing stdout and stderr:")
		case w := <-ended:
			if logged != nil {
				select {
				case err := <-logged:
					if err != nil {
						o.Say("its log broke off: %v", err)
					}
				case <-time.After(20 * time.Second): // it has ended, and so will its log
				}
			} else {
				e.tell(ctx, s.Name, o)
			}
			return e.end(ctx, s, int(w.StatusCode), o)
		case err := <-failed:
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			return 0, daemon.Explain(fmt.Errorf("wait for %s: %w", s.Name, err))
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// stays waits until a container has run long enough to be taken for well. An
// engine with much to do may not have seen yet that it ended, so it is asked for
// its processes. It reports false when ctx ended first.
func (e *Engine) stays(ctx context.Context, name string) bool {
	for wait := steady; ; wait = 100 * time.Millisecond {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		top, err := e.docker.ContainerTop(ctx, name, nil)
		if err == nil && len(top.Processes) > 0 {
			return true
		}
		// Without ps on its machine it can only say what it has seen.
		if c, inspectErr := e.docker.ContainerInspect(ctx, name); err != nil && inspectErr == nil && c.State != nil && c.State.Running {
			return true
		}
	}
}

// address is where a container's port is reached: at its own address where
// that is possible, since there nobody else accepts for it.
func (e *Engine) address(ctx context.Context, s Spec) (address, shown string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	at := e.docker.Host()
	if e.through != nil {
		at = "127.0.0.1"
	}
	shown = net.JoinHostPort(at, strconv.Itoa(s.Port))
	switch {
	case s.Network == "none":
		return "", "", nil
	case s.Network == "host":
		return shown, shown, nil
	case !e.Local() && e.through == nil:
		return shown, shown, nil
	}
	c, err := e.docker.ContainerInspect(ctx, s.Name)
	if err != nil {
		return "", "", daemon.Explain(fmt.Errorf("inspect %s: %w", s.Name, err))
	}
	if c.NetworkSettings != nil {
		for _, n := range c.NetworkSettings.Networks {
			if n.IPAddress != "" {
				own := net.JoinHostPort(n.IPAddress, strconv.Itoa(s.Container))
				if !s.Publish {
					shown = own
				}
				return own, shown, nil
			}
		}
	}
	return shown, shown, nil // it ended already, or its network has no addresses
}

// logs copies what a container says.
func (e *Engine) logs(ctx context.Context, name, lines string, follow bool, out, errs io.Writer) error {
	r, err := e.docker.ContainerLogs(ctx, name, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: lines})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = stdcopy.StdCopy(out, errs, r)
	return err
}

// tell shows the end of what a container said, of which nothing was shown yet.
func (e *Engine) tell(ctx context.Context, name string, o Options) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	o.Say("The container's last %d lines:", lastLines)
	if err := e.logs(ctx, name, strconv.Itoa(lastLines), false, o.Out, o.Err); err != nil {
		o.Say("they cannot be had: %v", err)
	}
}

// end says why a container ended, when that is not plain from its status.
func (e *Engine) end(ctx context.Context, s Spec, status int, o Options) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state := daemon.ExitState(ctx, e.docker, s.Name, status)
	if daemon.OutOfMemory(state) {
		return status, &KilledError{MemMB: s.memMB}
	}
	if status == 127 && e.lacksShell(ctx, s) {
		return status, noShell(s.Image)
	}
	o.Say("The container ended with status %s", daemon.ExitText(state))
	if status == 0 && o.HealthcheckOnly { // it is not there, so it is not healthy
		return 1, nil
	}
	return status, nil
}

// lacksShell tells a shell that is not there from a shell that did not find a
// program. With init: true it is Docker's tini that says so.
func (e *Engine) lacksShell(ctx context.Context, s Spec) bool {
	if !slices.Equal(s.Entrypoint, []string{"/bin/sh"}) {
		return false
	}
	var said strings.Builder
	err := e.logs(ctx, s.Name, "5", false, &said, &said)
	return err == nil && strings.Contains(said.String(), "exec /bin/sh failed")
}

// remove stops a container and removes it with its volumes. One that is not
// there is no error.
func (e *Engine) remove(ctx context.Context, name string, say func(string, ...any)) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	grace := int(stopGrace.Seconds())
	err := e.docker.ContainerStop(ctx, name, container.StopOptions{Timeout: &grace})
	if err == nil || !errdefs.IsNotFound(err) {
		err = e.docker.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
	}
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		say("The container %s stays behind: %v. The next local run removes it", name, err)
	}
}
