package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// hap is what the agent knows of the HAProxy that runs.
type hap struct {
	dynamic bool            // servers come and go at run time
	pid     int             // 0: none runs
	gone    <-chan struct{} // closed once pid has ended
	hash    string          // structure that it was started with
	// running is what it has, as far as we know: sections, with leaving servers.
	running map[string]haproxy.Section
	states  []haproxy.ServerState // of an adopted process, by which running is filled
	proxies map[string]bool       // its frontends and backends
	adopted bool                  // hash has not been compared with what should run
	doubt   bool                  // running may be wrong: read it again
	custom  string                // operator's sections that it has

	wanted    []string  // why a reload is wanted
	since     time.Time // since when
	notBefore time.Time
	cold      bool      // this host has never served: there was neither a HAProxy nor a config
	settleEnd time.Time // and a cold one, which is told of more all the time, until then
	settled   int       // registrations that had answers when that was looked at last
	settleBy  time.Time // a start waits until then for what is still coming
	failures  int       // reloads in a row that did not work
	lastErr   string

	leaving map[string]time.Time // servers that are to be deleted, since when
	reapAt  time.Time
	retryAt time.Time // commands that did not work

	keepAt time.Time // when to try again to hold its listeners
	deaths int       // one soon after the other
	diedAt time.Time

	reloads  int
	lastWhy  string
	lastAt   time.Time
	lastTook time.Duration
}

const (
	// coalesce is how long a reload waits for more of the same.
	coalesce = 30 * time.Millisecond
	// checkEvery is how often HAProxy is compared with what it should have.
	checkEvery = 30 * time.Second
	// reapEvery is the pause between two tries to delete servers.
	reapEvery = 250 * time.Millisecond
)

// structural says that something changed that takes a reload.
func (h *hap) structural(why string) {
	if len(h.wanted) == 0 {
		h.since = time.Now()
	}
	if !slices.Contains(h.wanted, why) {
		h.wanted = append(h.wanted, why)
	}
}

func (h *hap) due() time.Time {
	var due time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	if len(h.wanted) > 0 {
		at := latest(h.since.Add(coalesce), h.notBefore)
		if time.Now().After(at) && !h.settleBy.IsZero() {
			at = h.settleBy // until then whatever is awaited wakes us
		}
		earlier(at)
	}
	if len(h.leaving) > 0 {
		earlier(h.reapAt)
	}
	earlier(h.retryAt)
	earlier(h.keepAt)
	return due
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// has tells whether HAProxy listens for a registration.
func (h *hap) has(name string) bool {
	_, ok := h.running[name]
	return ok || h.proxies[name]
}

// serves tells whether HAProxy has a server of a registration, and lets it take
// traffic.
func (h *hap) serves(name, server string) bool {
	for _, b := range h.running[name].Service.Backends {
		for _, s := range b.Servers {
			if s.Name == server && !s.Leaving {
				return true
			}
		}
	}
	return false
}

// adopt finds the HAProxy that runs, or starts one from the file that an agent
// before us left, so that it serves before anybody has answered us.
func (a *Agent) adopt(ctx context.Context) {
	a.hap.running = map[string]haproxy.Section{}
	a.hap.leaving = map[string]time.Time{}
	a.hap.dynamic = true
	if in, err := a.o.Process.Version(ctx); err != nil {
		a.log.Error("asked HAProxy for its version", "err", err)
	} else if !in.HasDynamicServers() {
		a.hap.dynamic = false
		a.log.Error("this HAProxy cannot add servers at run time: every change is a reload; version 2.6 or later can", "version", in.Version)
	}
	in, ok, err := a.o.Process.Running(ctx)
	if err != nil {
		a.log.Error("looked for a running HAProxy", "err", err)
	}
	if !ok {
		text, err := a.o.Process.Written()
		if err != nil || len(text) == 0 {
			a.hap.cold = true // the first start of all
			return
		}
		if err := a.o.Process.KeepHealth(ctx, 0); err != nil {
			a.log.Warn("removed old server states", "err", err)
		}
		if _, err := a.o.Process.Start(ctx, 0); err != nil {
			a.log.Error("started HAProxy from the last config", "err", err)
			return
		}
		if in, ok, err = a.o.Process.Running(ctx); err != nil || !ok {
			a.log.Error("found the HAProxy that was started", "err", err)
			return
		}
		a.log.Info("started HAProxy from the last config", "pid", in.PID)
	} else {
		a.log.Info("adopted a running HAProxy", "pid", in.PID, "uptime_seconds", in.UptimeSec)
	}
	states, err := a.runtime.ServerStates(ctx, in.PID, "")
	if err != nil {
		a.log.Error("read the servers of HAProxy", "err", err)
	}
	rows, err := a.runtime.Stats(ctx, in.PID)
	if err != nil {
		a.log.Error("read the proxies of HAProxy", "err", err)
	}
	a.hap.proxies = map[string]bool{}
	for _, row := range rows {
		a.hap.proxies[row.Proxy] = true
	}
	a.hap.pid, a.hap.hash, a.hap.states, a.hap.adopted = in.PID, in.Structure, states, true
	a.hap.gone = haproxy.Gone(ctx, in.PID)
	a.keep(ctx)
}

// imported gives a registration that is new to this process the servers that
// an adopted HAProxy has for it.
func (a *Agent) imported(r *registration) {
	if !r.proxied || !a.hap.adopted {
		return
	}
	service := r.namespace.Service
	service.Backends = slices.Clone(service.Backends)
	found := false
	for i, b := range service.Backends {
		for _, s := range a.hap.states {
			if s.Backend != b.Name || !s.Addr.IsValid() {
				continue
			}
			found = true
			server := haproxy.Server{Name: s.Name, Addr: s.Addr, ID: s.ID, Weight: s.Weight, Leaving: s.Maint}
			if s.Drain {
				server.Weight = 0
			}
			m, known := r.members.All[s.Addr]
			if known && m.Entry.Name == s.Name {
				server.Options = m.Entry.Options
			} else if !known && !s.Maint {
				r.members.Adopt(discover.Member{Entry: r.namespace.Imported(b.Name, server), Serving: true, Since: time.Now()})
			}
			service.Backends[i].Servers = append(service.Backends[i].Servers, server)
			if s.Maint {
				a.hap.leaving[b.Name+"/"+s.Name] = time.Now()
			}
		}
	}
	if found || a.hap.has(r.name) {
		a.hap.running[r.name] = haproxy.RenderService(service)
	}
}

// compare finds out whether an adopted HAProxy has the structure that it
// should have.
func (a *Agent) compare() {
	if !a.hap.adopted || len(a.registrations) == 0 {
		return
	}
	a.hap.adopted, a.hap.states, a.hap.proxies = false, nil, nil
	want := a.sections()
	if haproxy.StructureHash(a.o.Global, a.custom, want) != a.hap.hash {
		a.hap.structural("the adopted HAProxy was started with another config")
		return
	}
	a.hap.custom = a.custom
	for _, s := range want {
		run, ok := a.hap.running[s.Service.Name]
		if !ok { // without servers it does not show in the states
			service := s.Service
			service.Backends = slices.Clone(service.Backends)
			for i := range service.Backends {
				service.Backends[i].Servers = nil
			}
			run = haproxy.RenderService(service)
		}
		a.hap.running[s.Service.Name] = run
	}
	for _, r := range a.registrations {
		r.good = r.namespace
	}
	a.hap.wanted = nil
}

// sections are all that should run.
func (a *Agent) sections() []haproxy.Section {
	sections := make([]haproxy.Section, 0, len(a.registrations))
	for _, r := range a.registrations {
		if r.proxied && !r.left && r.section.Structure != "" {
			sections = append(sections, r.section)
		}
	}
	return sections
}

// act brings HAProxy and the files in step with what was decided.
func (a *Agent) act(ctx context.Context) {
	now := time.Now()
	a.compare()
	a.name(ctx, now)
	if a.hap.doubt && a.hap.pid != 0 {
		a.resync(ctx)
	}
	if a.hap.pid != 0 && now.After(a.hap.retryAt) {
		a.hap.retryAt = time.Time{}
		a.tellHealth(ctx, now)
		a.membership(ctx, now)
		a.reap(ctx, now)
	}
	if a.hap.pid == 0 && len(a.sections()) > 0 {
		a.hap.structural("no HAProxy runs")
	}
	if len(a.hap.wanted) > 0 && !now.Before(latest(a.hap.since.Add(coalesce), a.hap.notBefore)) && !a.settling(now) {
		a.reload(ctx)
	}
	if a.hap.pid != 0 && !a.hap.keepAt.IsZero() && now.After(a.hap.keepAt) {
		a.keep(ctx)
	}
	a.files.write(a, time.Now())
}

// settling tells whether this agent has just started, and the registry has not
// answered for every registration, or servers have not been probed yet. A host
// that has never served does not wait for probes: all that it could do meanwhile
// is to refuse its clients.
func (a *Agent) settling(now time.Time) bool {
	if a.hap.settleBy.IsZero() {
		return false
	}
	if now.After(a.hap.settleBy) {
		if !a.hap.cold || now.After(a.hap.settleEnd) {
			return false
		}
		// One config with everything is there sooner than one with a part and
		// thousands of commands, as long as answers keep coming.
		confirmed := 0
		for _, r := range a.registrations {
			if r.confirmed {
				confirmed++
			}
		}
		if confirmed == a.hap.settled {
			return false
		}
		a.hap.settled, a.hap.settleBy = confirmed, now.Add(settle/4)
	}
	for _, r := range a.registrations {
		if !r.confirmed && r.readErr == "" {
			return true
		}
		for _, p := range r.probing {
			if !p.held && p.err == "" {
				return true
			}
		}
	}
	a.hap.settleBy = time.Time{}
	return false
}

// membership makes what changed at run time, and finds out what takes a reload.
func (a *Agent) membership(ctx context.Context, now time.Time) {
	var commands []haproxy.Command
	var changed []*registration
	for _, r := range a.registrations {
		if !r.changed || !r.proxied || r.left {
			if !r.proxied {
				r.applied, r.changed = r.set.Version, false
			}
			continue
		}
		run, ok := a.hap.running[r.name]
		if !ok {
			a.hap.structural(r.name + " is new")
			continue
		}
		change := haproxy.DiffService(run, r.section)
		if !a.hap.dynamic && len(change.Commands) > 0 {
			change.Reload = append(change.Reload, r.name+": its servers changed")
		}
		if len(change.Reload) > 0 {
			for _, why := range change.Reload {
				a.hap.structural(why)
			}
			continue
		}
		r.waiting = change.Waiting
		commands = append(commands, change.Commands...)
		changed = append(changed, r)
	}
	if len(commands) > 0 {
		if err := a.command(ctx, commands, now); err != nil {
			a.hap.retryAt = now.Add(200 * time.Millisecond)
			a.hap.doubt = true
			a.log.Error("changed servers at run time", "err", err)
			return
		}
		a.files.configDirty(now)
	}
	for _, r := range changed {
		r.changed = r.waiting > 0
		r.touched = true
		r.applied = r.set.Version
	}
}

// tellHealth tells HAProxy what the probes of unproven servers found: it calls a
// server up before it ever checked it, and its first check may be minutes away.
// Its own checks go on, and have the last word.
func (a *Agent) tellHealth(ctx context.Context, now time.Time) {
	var lines []string
	for _, r := range a.registrations {
		for _, h := range r.health {
			word := "down"
			if h.up {
				word = "up"
			}
			for _, b := range a.hap.running[r.name].Service.Backends {
				if slices.ContainsFunc(b.Servers, func(s haproxy.Server) bool { return s.Name == h.server }) {
					lines = append(lines, "set server "+b.Name+"/"+h.server+" health "+word)
				}
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	if _, err := a.runtime.Do(ctx, a.hap.pid, lines...); err != nil {
		a.hap.retryAt = now.Add(200 * time.Millisecond)
		a.log.Warn("told HAProxy what probes found", "err", err)
		return
	}
	for _, r := range a.registrations {
		r.health = nil
	}
}

// command runs commands and notes what they changed.
func (a *Agent) command(ctx context.Context, commands []haproxy.Command, now time.Time) error {
	var lines []string
	for _, c := range commands {
		lines = append(lines, c.Lines()...)
	}
	answers, err := a.runtime.Do(ctx, a.hap.pid, lines...)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range commands {
		n := len(c.Lines())
		if err := c.Refused(answers[:n]); err != nil {
			errs = append(errs, err)
		}
		answers = answers[n:]
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	touched := map[string][]haproxy.Command{}
	for _, c := range commands {
		name := a.owner(c.Backend)
		touched[name] = append(touched[name], c)
		a.o.Metrics.commands.WithLabelValues(c.Op.String()).Inc()
		key := c.Backend + "/" + c.Server.Name
		switch c.Op {
		case haproxy.Remove:
			a.hap.leaving[key] = now
			a.hap.reapAt = now.Add(reapEvery / 5)
		case haproxy.Ready:
			delete(a.hap.leaving, key)
		}
		a.log.Info("changed a server", "op", c.Op.String(), "backend", c.Backend, "server", c.Server.Name, "weight", c.Server.Weight)
	}
	for name, cs := range touched {
		run := haproxy.RenderService(haproxy.Applied(a.hap.running[name].Service, cs))
		if r := a.registrations[name]; r != nil && len(a.hap.leaving) == 0 && bytes.Equal(run.Text, r.section.Text) {
			run = r.section // one text is enough
		}
		a.hap.running[name] = run
	}
	return nil
}

// owner returns the registration of a backend: its name, or that without a
// location type.
func (a *Agent) owner(backend string) string {
	if _, ok := a.hap.running[backend]; ok {
		return backend
	}
	return backend[:max(strings.LastIndexByte(backend, '.'), 0)]
}

// reap deletes servers that take no traffic any more once their sessions are
// gone, or have had time enough.
func (a *Agent) reap(ctx context.Context, now time.Time) {
	if len(a.hap.leaving) == 0 || now.Before(a.hap.reapAt) {
		return
	}
	a.hap.reapAt = now.Add(reapEvery)
	for _, key := range slices.Sorted(maps.Keys(a.hap.leaving)) {
		backend, server, _ := strings.Cut(key, "/")
		name := a.owner(backend)
		run, ok := a.hap.running[name]
		if !ok {
			delete(a.hap.leaving, key) // went with a reload
			continue
		}
		c := haproxy.Command{Op: haproxy.Delete, Backend: backend, Server: haproxy.Server{Name: server}}
		lines := c.Lines()
		if now.Sub(a.hap.leaving[key]) > longestLeave(run.Service) {
			kick := haproxy.Command{Op: haproxy.Kick, Backend: backend, Server: c.Server}
			lines = append(kick.Lines(), lines...)
		}
		answers, err := a.runtime.Do(ctx, a.hap.pid, lines...)
		if err != nil {
			a.log.Warn("deleted a server", "err", err, "backend", backend, "server", server)
			return
		}
		if err := c.Refused(answers[len(answers)-1:]); err != nil {
			continue // it still has sessions
		}
		delete(a.hap.leaving, key)
		a.hap.running[name] = haproxy.RenderService(haproxy.Applied(run.Service, []haproxy.Command{c}))
		if r := a.registrations[name]; r != nil && r.waiting > 0 {
			r.changed = true
			a.hap.retryAt = now.Add(time.Millisecond)
		}
	}
}

// longestLeave is how long the sessions of a removed server may go on.
func longestLeave(s haproxy.Service) time.Duration {
	return min(max(2*s.TimeoutServer, 30*time.Second), 10*time.Minute)
}

// resync reads what HAProxy really has; what differs is set right.
func (a *Agent) resync(ctx context.Context) {
	states, err := a.runtime.ServerStates(ctx, a.hap.pid, "")
	if err != nil {
		a.log.Warn("read the servers of HAProxy", "err", err)
		return
	}
	a.hap.doubt = false
	byBackend := map[string][]haproxy.ServerState{}
	for _, s := range states {
		byBackend[s.Backend] = append(byBackend[s.Backend], s)
	}
	for name, run := range a.hap.running {
		service := run.Service
		service.Backends = slices.Clone(service.Backends)
		differs := false
		for i, b := range service.Backends {
			servers := fromStates(b.Servers, byBackend[b.Name])
			differs = differs || !slices.Equal(byName(servers), byName(b.Servers))
			service.Backends[i].Servers = servers
			for _, s := range servers {
				key := b.Name + "/" + s.Name
				if _, known := a.hap.leaving[key]; s.Leaving && !known {
					a.hap.leaving[key] = time.Now()
				}
			}
		}
		if differs {
			a.hap.running[name] = haproxy.RenderService(service)
			if r := a.registrations[name]; r != nil {
				r.changed = true
				a.log.Warn("HAProxy had other servers than it should", "registration", name)
			}
		}
	}
}

// fromStates returns the servers that HAProxy says it has; known says what it
// does not tell.
func fromStates(known []haproxy.Server, states []haproxy.ServerState) []haproxy.Server {
	options := map[string]haproxy.Options{}
	for _, s := range known {
		options[s.Name] = s.Options
	}
	var servers []haproxy.Server
	for _, s := range states {
		server := haproxy.Server{Name: s.Name, Addr: s.Addr, ID: s.ID, Weight: s.Weight, Leaving: s.Maint, Options: options[s.Name]}
		if s.Drain {
			server.Weight = 0
		}
		servers = append(servers, server)
	}
	return servers
}

func byName(servers []haproxy.Server) []haproxy.Server {
	return slices.SortedFunc(slices.Values(servers), func(a, b haproxy.Server) int { return strings.Compare(a.Name, b.Name) })
}

// Deaths that follow each other within deathsApart count together; after so many
// of them a start waits a little.
const (
	deathsApart  = 10 * time.Second
	deathsAtOnce = 5
)

// died starts HAProxy again, at once, from the file. Connections that come
// meanwhile wait in the listeners that were kept.
func (a *Agent) died(ctx context.Context) {
	a.log.Error("HAProxy died", "pid", a.hap.pid)
	a.o.Metrics.deaths.Inc()
	now := time.Now()
	if now.Sub(a.hap.diedAt) > deathsApart {
		a.hap.deaths = 0
	}
	a.hap.deaths++
	a.hap.diedAt = now
	a.hap.pid, a.hap.gone = 0, nil
	a.hap.leaving, a.hap.retryAt = map[string]time.Time{}, time.Time{}
	a.writeConfig()
	if n := a.hap.deaths - deathsAtOnce; n > 0 {
		a.hap.structural("HAProxy died")
		a.hap.notBefore = latest(a.hap.notBefore, now.Add(min(time.Second<<min(n, 6), time.Minute)))
		a.o.Process.Kept.Drop() // a client should rather hear that nobody is there
		return
	}
	a.restart(ctx)
}

// restart starts HAProxy where none serves, from the file.
func (a *Agent) restart(ctx context.Context) {
	if err := a.o.Process.KeepHealth(ctx, 0); err != nil {
		a.log.Warn("removed old server states", "err", err)
	}
	pid, err := a.o.Process.Start(ctx, 0)
	if err != nil {
		a.log.Error("started HAProxy again", "err", err)
		a.hap.structural("HAProxy died")
		return
	}
	a.started(ctx, pid)
	a.log.Info("started HAProxy again", "pid", pid)
}

// keep holds the listeners of the process that runs.
func (a *Agent) keep(ctx context.Context) {
	err := a.o.Process.Kept.Take(ctx, a.o.Process.Socket(), a.hap.pid)
	if errors.Is(err, haproxy.ErrOtherProcess) { // the old one, for a moment yet
		a.hap.keepAt = time.Now().Add(20 * time.Millisecond)
		return
	}
	if err != nil {
		a.hap.keepAt = time.Now().Add(time.Second)
		a.log.Warn("kept the listeners of HAProxy", "err", err)
		return
	}
	a.hap.keepAt = time.Time{}
}

// started notes a new process.
func (a *Agent) started(ctx context.Context, pid int) {
	a.hap.pid, a.hap.gone = pid, haproxy.Gone(ctx, pid)
	a.view.forget()
	for name, run := range a.hap.running {
		run.Service.Backends = slices.Clone(run.Service.Backends)
		for i, b := range run.Service.Backends {
			run.Service.Backends[i].Servers = slices.DeleteFunc(slices.Clone(b.Servers), func(s haproxy.Server) bool { return s.Leaving })
		}
		a.hap.running[name] = run
	}
	timeout := time.After(5 * time.Second)
	for ctx.Err() == nil {
		// Until the old process has let go of the socket either may answer.
		if _, err := a.runtime.Do(ctx, pid, "show version"); err == nil {
			a.keep(ctx)
			return
		}
		select {
		case <-a.hap.gone:
			return // Run sees that as well
		case <-timeout:
			a.log.Error("waited for the runtime api of the new HAProxy", "pid", pid, "err", fmt.Errorf("no answer at %s", a.o.Process.Socket()))
			a.hap.keepAt = time.Now().Add(time.Second)
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}
