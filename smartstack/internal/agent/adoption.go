package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// adopt finds the HAProxy that runs, or starts one from the file that an agent
// before us left, so that it serves before anybody has answered us.
func (a *Agent) adopt(ctx context.Context) {
	a.hap.running = map[string]*haproxy.Section{}
	a.hap.leaving = map[string]time.Time{}
	a.hap.doubts = map[string]bool{}
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
			a.log.Error("start HAProxy from the last config failed", "err", err)
			// Such as one that a newer HAProxy does not take any more: nothing serves, as
			// on a host that never did.
			_, a.hap.cold = errors.AsType[*haproxy.ConfigError](err)
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
	states, err := a.runtime.ServerStates(ctx, in.PID)
	if err != nil {
		a.log.Error("read the servers of HAProxy", "err", err)
	}
	a.hap.proxies = map[string]bool{}
	if err := a.runtime.EachRow(ctx, in.PID, func(row haproxy.Row) { a.hap.proxies[row.Proxy] = true }); err != nil {
		a.log.Error("read the proxies of HAProxy", "err", err)
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
				r.members.Put(discover.Member{Entry: r.namespace.Imported(b.Name, server), Serving: true, Since: time.Now()})
			}
			service.Backends[i].Servers = append(service.Backends[i].Servers, server)
			if s.Maint {
				a.hap.leaving[b.Name+"/"+s.Name] = time.Now()
			}
		}
	}
	if found || a.hap.has(r.name) {
		a.hap.running[r.name] = haproxy.NewSection(service)
	}
}

// compare finds out whether an adopted HAProxy has the structure that it
// should have.
func (a *Agent) compare(now time.Time) {
	if !a.hap.adopted || len(a.registrations) == 0 || a.tree == nil && now.Before(a.hap.settleBy) {
		return
	}
	a.hap.adopted, a.hap.states, a.hap.proxies = false, nil, nil
	want := a.sections()
	if haproxy.StructureHash(a.o.Global, a.custom.text, want) != a.hap.hash {
		a.hap.wishes.add(haproxy.Adopted, "the adopted HAProxy was started with another config")
		return
	}
	a.hap.custom = a.custom.text
	a.custom.took(a)
	for _, s := range want {
		run, ok := a.hap.running[s.Service.Name]
		if !ok { // without servers it does not show in the states
			service := s.Service
			service.Backends = slices.Clone(service.Backends)
			for i := range service.Backends {
				service.Backends[i].Servers = nil
			}
			run = haproxy.NewSection(service)
		}
		a.hap.running[s.Service.Name] = run
	}
	for _, r := range a.registrations {
		r.good = r.namespace
	}
	a.hap.wishes.clear()
}
