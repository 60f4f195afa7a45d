package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/reload"
)

// A proxy is the HAProxy of this host: what the agent knows of the process that
// runs, and what changes it.
type proxy struct {
	process  haproxy.Process
	global   haproxy.Global
	runtime  *haproxy.Runtime
	reloader reload.Reloader
	log      *slog.Logger
	metrics  *Metrics

	version string // of the binary in full, e.g. 2.6.12-1; "": not known yet
	maxConn int    // that the process was started with by this agent; 0: not yet
	cold    bool   // this host has never served: there was neither a HAProxy nor a config

	pid       int             // 0: none runs
	replaced  bool            // by one that we did not start: nobody knows what it has
	gone      <-chan struct{} // closed once pid has ended
	structure string          // hash of the structure that it was started with
	custom    string          // operator's sections that it has
	adopted   *adoption       // of a process that has not been compared with what should run
	// running is what it has, as far as we know: sections, with leaving servers.
	running    map[string]*haproxy.Section
	unverified map[string]bool      // registrations whose running may be wrong: they are read again
	verifying  rotation             // of all registrations
	leaving    map[string]time.Time // servers that are to be deleted, since when

	reapAt  time.Time
	retryAt time.Time // of commands that failed
	keepAt  time.Time // when to try again to hold its listeners
	deaths  deaths
}

const (
	// verifyEvery is how often HAProxy is compared with what it should have, in so
	// many parts that none of them holds up a change.
	verifyEvery = 30 * time.Second
	verifyParts = 30
	// reapEvery is the pause between two tries to delete servers.
	reapEvery = 250 * time.Millisecond
	// retryCommands is the pause after commands that failed.
	retryCommands = 200 * time.Millisecond
)

// due is when there is something to do without an event.
func (p *proxy) due() time.Time {
	due := earliest(p.retryAt, p.keepAt)
	if len(p.leaving) > 0 {
		due = earliest(due, p.reapAt)
	}
	return due
}

// has tells whether HAProxy listens for a registration.
func (p *proxy) has(name string) bool {
	return p.running[name] != nil || p.adopted != nil && p.adopted.proxies[name]
}

// listens tells whether HAProxy listens on a port.
func (p *proxy) listens(port int) bool {
	for _, section := range p.running {
		for _, bind := range section.Service.Bind {
			if int(bind.Port()) == port {
				return true
			}
		}
	}
	return false
}

// holds tells whether HAProxy listens for a namespace where that says. What an
// adopted one has that soa-configs did not tell yet may be anywhere: it does.
func (p *proxy) holds(n discover.Namespace) bool {
	return p.listens(n.Port) || p.running[n.Registration] == nil && p.has(n.Registration)
}

// hasCallerMap tells whether HAProxy has a map of callers at all.
func (p *proxy) hasCallerMap() bool {
	for _, section := range p.running {
		if section.Service.CallerMap != "" {
			return true
		}
	}
	return false
}

// owner returns the registration of a backend: its name, or that without a
// location type.
func (p *proxy) owner(backend string) string {
	if p.running[backend] != nil {
		return backend
	}
	return backend[:max(strings.LastIndexByte(backend, '.'), 0)]
}

// diff is the way from what runs to a section.
func (p *proxy) diff(running, want *haproxy.Section) haproxy.Change {
	return haproxy.Diff(running, want).At(p.global.Version, want.Service.Name)
}

// runs tells whether the process that runs has all but what changes at run time.
func (p *proxy) runs(custom string, sections []*haproxy.Section) bool {
	return p.pid != 0 && haproxy.StructureHash(p.global, custom, sections) == p.structure &&
		!slices.ContainsFunc(sections, func(s *haproxy.Section) bool {
			running := p.running[s.Service.Name]
			return running == nil || len(p.diff(running, s).Reload) > 0
		})
}

// command runs commands and notes what they changed.
func (p *proxy) command(ctx context.Context, commands []haproxy.Command, now time.Time) error {
	answers, err := p.runtime.Do(ctx, p.pid, lines(commands)...)
	if err != nil {
		return err
	}
	var errs []error
	touched := map[string][]haproxy.Command{}
	for _, c := range commands {
		n := len(c.Lines())
		errs = append(errs, c.Refused(answers[:n]))
		answers = answers[n:]
		name := p.owner(c.Backend)
		touched[name] = append(touched[name], c)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, c := range commands {
		p.metrics.commands.WithLabelValues(c.Op.String()).Inc()
		switch key := c.Backend + "/" + c.Server.Name; c.Op {
		case haproxy.Remove:
			p.leaving[key] = now
			if p.reapAt.Before(now) { // else others that leave are looked at before long
				p.reapAt = now.Add(reapEvery / 5)
			}
		case haproxy.Ready:
			delete(p.leaving, key)
		}
		p.log.Info("changed a server", "op", c.Op.String(), "backend", c.Backend, "server", c.Server.Name, "weight", c.Server.Weight)
	}
	for name, commands := range touched {
		p.applied(name, commands)
	}
	return nil
}

// applied notes what commands have changed.
func (p *proxy) applied(name string, commands []haproxy.Command) {
	running := p.running[name]
	p.running[name] = running.With(haproxy.Applied(running.Service, commands))
}

func lines(commands []haproxy.Command) []string {
	var lines []string
	for _, c := range commands {
		lines = append(lines, c.Lines()...)
	}
	return lines
}

// reap deletes servers that take no traffic any more once their sessions are gone,
// or have had time enough. It returns the registrations that lost some.
func (p *proxy) reap(ctx context.Context, now time.Time) (changed []string) {
	if len(p.leaving) == 0 || now.Before(p.reapAt) {
		return nil
	}
	p.reapAt = now.Add(reapEvery)
	var commands []haproxy.Command
	for _, key := range slices.Sorted(maps.Keys(p.leaving)) {
		backend, server, _ := strings.Cut(key, "/")
		running := p.running[p.owner(backend)]
		if running == nil {
			delete(p.leaving, key) // went with a reload
			continue
		}
		c := haproxy.Command{Op: haproxy.Delete, Backend: backend, Server: haproxy.Server{Name: server}}
		if now.Sub(p.leaving[key]) > longestLeave(running.Service) {
			kick := c
			kick.Op = haproxy.Kick
			commands = append(commands, kick)
		}
		commands = append(commands, c)
	}
	answers, err := p.runtime.Do(ctx, p.pid, lines(commands)...)
	if err != nil {
		p.log.Warn("delete servers failed", "err", err, "servers", len(p.leaving))
		return nil
	}
	for i, c := range commands { // each is one line
		if c.Op != haproxy.Delete || c.Refused(answers[i:i+1]) != nil {
			continue // it still has sessions
		}
		delete(p.leaving, c.Backend+"/"+c.Server.Name)
		name := p.owner(c.Backend)
		p.applied(name, commands[i:i+1])
		changed = append(changed, name)
	}
	return changed
}

// longestLeave is how long the sessions of a removed server may go on.
func longestLeave(s haproxy.Service) time.Duration {
	return min(max(2*s.TimeoutServer, s.TimeoutTunnel, 30*time.Second), 10*time.Minute)
}

// A rotation names a part of all registrations at a time.
type rotation struct {
	names []string
	part  int // of verifyParts, that comes next
}

// next returns the next part, and says when it is the last one.
func (r *rotation) next(running map[string]*haproxy.Section) (names []string, last bool) {
	if r.part == 0 {
		r.names = slices.Sorted(maps.Keys(running))
	}
	n := len(r.names)
	names = r.names[r.part*n/verifyParts : (r.part+1)*n/verifyParts]
	r.part = (r.part + 1) % verifyParts
	return names, r.part == 0
}

// verify reads what HAProxy really has of the registrations that are unverified. It
// returns those of which it has something else.
func (p *proxy) verify(ctx context.Context) (changed []string) {
	unverified := p.unverified
	if len(unverified) == 0 {
		return nil
	}
	p.unverified = map[string]bool{}
	var backends []string
	for name := range unverified {
		if running := p.running[name]; running != nil {
			for _, b := range running.Service.Backends {
				backends = append(backends, b.Name)
			}
		}
	}
	if len(backends) == 0 {
		return nil
	}
	states, err := p.runtime.ServerStates(ctx, p.pid, backends...)
	if err != nil {
		p.runtime.CloseIdle()                                        // perhaps to a process that does not serve any more
		p.log.Warn("read the servers of HAProxy failed", "err", err) // the next round, or what fails again, leads here
		p.replaced = p.replaced || errors.Is(err, haproxy.ErrOtherProcess) && p.follow(ctx)
		return nil
	}
	byBackend := make(map[string][]haproxy.ServerState, len(backends))
	for _, s := range states {
		byBackend[s.Backend] = append(byBackend[s.Backend], s)
	}
	for name := range unverified {
		running := p.running[name]
		if running == nil {
			continue
		}
		service := running.Service
		service.Backends = slices.Clone(service.Backends)
		for i, b := range service.Backends {
			service.Backends[i].Servers = p.fromStates(b, byBackend[b.Name])
		}
		if has := running.With(service); !has.Equal(running) {
			p.running[name] = has
			changed = append(changed, name)
			p.log.Warn("HAProxy has other servers than it should", "registration", name)
		}
	}
	return changed
}

// follow goes over to the process that serves, if that is another one: an agent that
// was killed may have been starting it.
func (p *proxy) follow(ctx context.Context) bool {
	in, ok, err := p.process.Running(ctx)
	if err != nil || !ok || in.PID == p.pid {
		return false // one that finishes has answered
	}
	p.pid, p.gone = in.PID, haproxy.Exited(ctx, in.PID)
	return true
}

// fromStates returns the servers that HAProxy says a backend has; known says what it
// does not tell.
func (p *proxy) fromStates(known haproxy.Backend, states []haproxy.ServerState) []haproxy.Server {
	servers := make([]haproxy.Server, 0, len(states))
	for _, s := range states {
		server := s.Server()
		if i := slices.IndexFunc(known.Servers, func(k haproxy.Server) bool { return k.Name == s.Name }); i >= 0 {
			server.Options, server.Down = known.Servers[i].Options, known.Servers[i].Down
		}
		key := known.Name + "/" + s.Name
		if _, leaving := p.leaving[key]; server.Leaving && !leaving {
			p.leaving[key] = time.Now()
		}
		servers = append(servers, server)
	}
	return servers
}

// earliest returns the earlier time; a zero one is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
