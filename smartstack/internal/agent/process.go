package agent

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// identify finds out, once, which HAProxy this is, and says what that means. The
// error is of one that cannot be used; one that does not say is asked again before
// the next start.
func (p *proxy) identify(ctx context.Context) error {
	if p.version != "" {
		return nil
	}
	v, full, err := p.process.Version(ctx)
	if err != nil {
		p.log.Error("ask HAProxy for its version failed", "err", err)
		return nil
	}
	if v.Before(haproxy.Oldest) {
		return fmt.Errorf("%s is HAProxy %s: version %s or later is needed, which passes its listening sockets on at a reload", p.process.Binary, full, haproxy.Oldest)
	}
	p.version, p.global.Version = full, v
	for _, lost := range v.Lost() {
		p.log.Error("this HAProxy is too old for some features", "version", full, "lost", lost)
	}
	if v.Untested() {
		p.log.Info("this HAProxy is newer than those that were tested", "version", full, "tested", fmt.Sprint(haproxy.Tested))
	}
	return nil
}

// fit notes how many connections HAProxy gets, and says once when that is less
// than what it should.
func (p *proxy) fit(custom string, sections []*haproxy.Section) {
	want := p.global.MaxConn
	n, needed := haproxy.FitMaxConn(p.global, custom, sections)
	if n < want && cmp.Or(p.maxConn, want) == want {
		p.log.Error("HAProxy gets fewer connections than smartstack.maxconn says: it may not open enough files; raise LimitNOFILE of the agent's unit, or lower smartstack.maxconn",
			"maxconn", n, "wanted", want, "files", p.global.Files, "files_needed", needed)
	}
	p.maxConn = n
}

// start starts a process with the sections, which takes over from the one that runs.
// When it fails, the config of before is back in its place.
func (p *proxy) start(ctx context.Context, custom string, sections []*haproxy.Section) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.runtime.CloseIdle()          // else the old process waits for it
	last, _ := p.process.Written() // none yet: nothing to go back to
	if err := p.process.WriteBy(func(w *bufio.Writer) { haproxy.Write(w, p.global, custom, sections) }); err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	p.fit(custom, sections)
	old := p.pid
	health := p.process.KeepHealth(ctx, old)
	if health != nil {
		p.log.Warn("keep the servers' health failed, the new HAProxy takes all to be up", "err", health)
	}
	var pid int
	err := p.reloader.Do(ctx, func(ctx context.Context) error {
		var err error
		pid, err = p.process.Start(ctx, old)
		return err
	})
	if pid == 0 {
		if len(last) > 0 {
			err = errors.Join(err, p.process.Write(last))
		}
		if old != 0 && !p.serves(ctx, old) {
			// The new one ended after it had told the old one to finish: nobody
			// accepts connections. They wait in the listeners that we keep.
			p.log.Error("neither the old HAProxy nor the new one serves", "pid", old)
			p.pid, p.gone = 0, nil
		}
		return err
	}
	if err != nil {
		p.log.Error("release connections after a reload failed: they may still be held", "err", err)
	}
	p.running = make(map[string]*haproxy.Section, len(sections))
	for _, s := range sections {
		p.running[s.Service.Name] = s
	}
	p.adopted = nil
	p.custom, p.structure = custom, haproxy.StructureHash(p.global, custom, sections)
	p.started(ctx, pid, old != 0 && health == nil)
	return nil
}

// serves tells whether the process pid has the runtime API, and so listens: one
// that was told to finish lets go of all of its listeners together. It is asked
// also when the agent is about to end.
func (p *proxy) serves(ctx context.Context, pid int) bool {
	ctx = context.WithoutCancel(ctx)
	for range 5 {
		in, ok, err := p.process.Running(ctx)
		if err == nil {
			return ok && in.PID == pid
		}
		time.Sleep(10 * time.Millisecond) // it was asked just as it let go
	}
	return false
}

// started notes a new process; health tells whether it knows which servers were
// down.
func (p *proxy) started(ctx context.Context, pid int, health bool) {
	p.pid, p.gone, p.replaced = pid, haproxy.Exited(ctx, pid), false
	p.leaving, p.unverified = map[string]time.Time{}, map[string]bool{}
	for name, running := range p.running {
		p.running[name] = running.Restarted(health)
	}
	timeout := time.After(5 * time.Second)
	for ctx.Err() == nil {
		// Until the old process has let go of the socket either may answer.
		if _, err := p.runtime.Do(ctx, pid, "show version"); err == nil {
			p.keep(ctx)
			return
		}
		select {
		case <-p.gone:
			return // Run sees that as well
		case <-timeout:
			p.log.Error("the runtime API of the new HAProxy does not answer", "pid", pid, "path", p.process.Socket())
			p.keepAt = time.Now().Add(time.Second)
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// keep holds the listeners of the process that runs, so that connections wait while
// there is none.
func (p *proxy) keep(ctx context.Context) {
	p.keepAt = time.Time{}
	err := p.process.Kept.Take(ctx, p.process.Socket(), p.pid)
	if errors.Is(err, haproxy.ErrOtherProcess) { // the old one, for a moment yet
		p.keepAt = time.Now().Add(20 * time.Millisecond)
	} else if err != nil {
		p.keepAt = time.Now().Add(time.Second)
		p.log.Warn("hold the listeners of HAProxy failed", "err", err)
	}
}

// deaths counts deaths that follow each other within deathsApart; after some of them
// a start waits.
type deaths struct {
	atOnce int // how many do not wait
	n      int
	at     time.Time // of the last one
}

const deathsApart = 10 * time.Second

// add counts a death, and says how long the next start waits.
func (d *deaths) add(now time.Time) time.Duration {
	if now.Sub(d.at) > deathsApart {
		d.n = 0
	}
	d.n++
	d.at = now
	if n := d.n - d.atOnce; n > 0 {
		return min(time.Second<<min(n, 6), time.Minute)
	}
	return 0
}

// died notes that the process has ended, and says how long to wait before another
// one is started. Meanwhile connections wait in the listeners that were kept, unless
// it takes long: a client should rather hear that nobody is there.
func (p *proxy) died(now time.Time) (wait time.Duration) {
	p.log.Error("HAProxy died", "pid", p.pid)
	p.metrics.deaths.Inc()
	p.runtime.CloseIdle()
	p.pid, p.gone, p.retryAt = 0, nil, time.Time{}
	p.leaving = map[string]time.Time{}
	if wait = p.deaths.add(now); wait > 0 {
		p.process.Kept.Drop()
	}
	return wait
}

// restart starts HAProxy where none serves, from the file.
func (p *proxy) restart(ctx context.Context) error {
	if err := p.process.KeepHealth(ctx, 0); err != nil {
		p.log.Warn("remove old server states failed", "err", err)
	}
	pid, err := p.process.Start(ctx, 0)
	if err != nil {
		p.log.Error("start HAProxy again failed", "err", err)
		return err
	}
	p.started(ctx, pid, false)
	p.log.Info("started HAProxy again", "pid", pid)
	return nil
}

// An adoption is what an adopted process has, as it tells.
type adoption struct {
	states  []haproxy.ServerState
	proxies map[string]bool // its frontends and backends
}

// ask asks process pid what it has.
func (p *proxy) ask(ctx context.Context, pid int) (*adoption, error) {
	a := &adoption{proxies: map[string]bool{}}
	p.runtime.CloseIdle()
	states, err := p.runtime.ServerStates(ctx, pid)
	a.states = states
	return a, errors.Join(err, p.runtime.EachRow(ctx, pid, func(row haproxy.Row) { a.proxies[row.Proxy] = true }))
}

// adopt finds the HAProxy that runs, or starts one from the file that an agent
// before us left, so that it serves before anybody has answered us.
func (p *proxy) adopt(ctx context.Context) {
	p.running, p.unverified, p.leaving = map[string]*haproxy.Section{}, map[string]bool{}, map[string]time.Time{}
	in, ok, err := p.process.Running(ctx)
	if err != nil {
		p.log.Error("look for a running HAProxy failed", "err", err)
	}
	if ok {
		p.log.Info("adopted a running HAProxy", "pid", in.PID, "uptime_seconds", in.UptimeSec)
	} else if in, ok = p.startWritten(ctx); !ok {
		return
	}
	for range 20 {
		p.adopted, err = p.ask(ctx, in.PID)
		if !errors.Is(err, haproxy.ErrOtherProcess) {
			break
		}
		// An agent that was killed was starting another one: both have the socket.
		time.Sleep(20 * time.Millisecond)
		if now, ok, err := p.process.Running(ctx); ok && err == nil {
			in = now
		}
	}
	if err != nil {
		p.log.Error("read what the adopted HAProxy has failed", "err", err)
	}
	p.pid, p.structure, p.gone = in.PID, in.Structure, haproxy.Exited(ctx, in.PID)
	p.keep(ctx)
}

// startWritten starts HAProxy from the file that an agent before us left; ok is
// false when there is none, or it does not start.
func (p *proxy) startWritten(ctx context.Context) (in haproxy.Info, ok bool) {
	text, err := p.process.Written()
	if err != nil || len(text) == 0 {
		p.cold = true // the first start of all
		return in, false
	}
	if err := p.process.KeepHealth(ctx, 0); err != nil {
		p.log.Warn("remove old server states failed", "err", err)
	}
	if _, err := p.process.Start(ctx, 0); err != nil {
		p.log.Error("start HAProxy from the last config failed", "err", err)
		// Such as one that a newer HAProxy does not take any more: nothing serves, as
		// on a host that never did.
		_, p.cold = errors.AsType[*haproxy.ConfigError](err)
		return in, false
	}
	if in, ok, err = p.process.Running(ctx); err != nil || !ok {
		p.log.Error("find the HAProxy that was started failed", "err", err)
		return in, false
	}
	p.log.Info("started HAProxy from the last config", "pid", in.PID)
	return in, true
}

// imported gives a registration that is new to this process the servers that
// an adopted HAProxy has for it.
func (p *proxy) imported(r *registration) {
	if !r.namespace.Proxied() || p.adopted == nil {
		return
	}
	section, found := r.namespace.Bare(), false
	for i, b := range section.Service.Backends {
		servers := []haproxy.Server{}
		for _, s := range p.adopted.states {
			if s.Backend != b.Name || !s.Addr.IsValid() {
				continue
			}
			found = true
			server := s.Server()
			m, known := r.members.All[s.Addr]
			if known && m.Entry.Name == s.Name {
				server.Options = m.Entry.Options
			} else if !known && !s.Maint {
				r.members.Put(discover.Member{Entry: r.namespace.Imported(b.Name, server), Serving: true, Since: time.Now()})
			}
			servers = append(servers, server)
			if s.Maint {
				p.leaving[b.Name+"/"+s.Name] = time.Now()
			}
		}
		section.Service.Backends[i].Servers = servers
	}
	if found || p.has(r.name) {
		p.running[r.name] = section
	}
}
