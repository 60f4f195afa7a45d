package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// namespaces takes a new reading of soa-configs.
func (a *Agent) namespaces(ctx context.Context, t *soaconfig.Tree) {
	a.treeErr = nil
	if len(t.Services) == 0 && (len(a.registrations) > 0 || len(a.hap.proxies) > 0) {
		// A directory that is not mounted looks like this. Nobody removes all of
		// their services at once.
		a.treeErr = errors.New("there are no services any more; what was there stays")
		a.log.Error("read soa-configs", "err", a.treeErr)
		return
	}
	a.tree = t
	a.follow(ctx)
}

// unread says that soa-configs cannot be read; what they said last is served.
func (a *Agent) unread(err error) {
	a.treeErr = err
}

// follow serves what the tree says. A namespace that is broken now keeps what it
// was; others do not notice.
func (a *Agent) follow(ctx context.Context) {
	t := a.tree
	sound := map[string]soaconfig.Namespace{}
	kept := map[string]error{} // why what was there stays
	a.problems, a.retry = map[string]error{}, false
	a.readCustom()
	for _, s := range t.Services {
		for name, ns := range s.Namespaces.Valid {
			if ns.Registered || ns.ProxyPort != nil {
				sound[s.Name+"."+name] = ns
			}
		}
		for name, problems := range s.Namespaces.Invalid {
			kept[s.Name+"."+name], a.problems[s.Name+"."+name] = problems, problems
		}
		if len(s.Namespaces.Unreadable) > 0 {
			a.problems[s.Name] = s.Namespaces.Unreadable
			for name := range a.registrations {
				if _, ok := sound[name]; !ok && kept[name] == nil && strings.HasPrefix(name, s.Name+".") {
					kept[name] = s.Namespaces.Unreadable
				}
			}
		}
	}
	for name, r := range a.registrations {
		if ns, ok := sound[name]; r.proxied && (ok && ns.ProxyPort == nil || !ok && kept[name] == nil) && a.custom.refersTo(r.namespace) {
			// Without it HAProxy would refuse the operator's sections, and with them
			// every reload.
			delete(sound, name)
			kept[name] = errors.New("custom_config refers to it: it is served as it was until that does not")
			a.problems[name], a.retry = kept[name], true
			continue
		}
		// A service whose directory or smartstack.yaml vanished, and whose tasks
		// are registered all the same, looks like an accident to its files. deployd
		// holds its apps in that case; here it is served until they are gone. A
		// namespace that its own file does not have any more goes at once.
		if _, ok := sound[name]; ok || kept[name] != nil || len(r.members.All) == 0 || !vanished(t, name) {
			continue
		}
		kept[name] = fmt.Errorf("its smartstack.yaml is gone, it is served as it was while %d servers are registered", len(r.members.All))
		a.problems[name], a.retry = kept[name], true
	}
	wanted := a.translate(sound, kept)
	for name, r := range a.registrations {
		if _, ok := wanted[name]; ok || kept[name] != nil {
			continue
		}
		r.stop()
		delete(a.registrations, name)
		delete(a.stirred, r)
		delete(a.later, r)
		a.gone = append(a.gone, name)
		a.files.cacheDirty(time.Now(), name)
		a.hap.wishes.add(haproxy.ServiceGone, name+" is gone")
		a.log.Info("stopped serving", "registration", name)
	}
	for name, w := range wanted {
		r := a.registrations[name]
		known := r != nil
		if !known {
			r = a.serve(ctx, w)
		}
		if w.proxied && a.refuses(r, w.namespace) {
			a.problems[name], a.retry = r.refused.err, true
			continue
		}
		if r.proxied && !w.proxied && a.hap.has(name) {
			a.hap.wishes.add(haproxy.ServiceGone, name+" has no proxy_port any more")
		}
		if w.proxied && (known && !r.proxied || !known && a.hap.pid != 0) && !a.hap.has(name) {
			a.unprove(r)
		}
		r.namespace, r.proxied, r.problem, r.left, r.refused, r.stale, r.dirty = w.namespace, w.proxied, "", false, nil, true, true
		a.stir(r)
	}
	for name, why := range kept { // of what is not served at all, a.problems tells
		if r := a.registrations[name]; r != nil {
			r.problem, r.touched = why.Error(), true
			a.stir(r)
		}
	}
	a.references()
	a.files.goodDirty(time.Now())
}

// serve begins with a registration.
func (a *Agent) serve(ctx context.Context, w wanted) *registration {
	r := &registration{name: w.namespace.Registration, namespace: w.namespace, proxied: w.proxied, stale: true, dirty: true}
	r.ctx, r.stop = context.WithCancel(ctx)
	r.members = a.cached(r.name)
	a.registrations[r.name] = r
	a.imported(r)
	a.watch(r)
	a.stir(r)
	a.log.Info("serves", "registration", r.name, "port", w.namespace.Port)
	return r
}

// unprove makes the members of a registration that has no frontend yet wait for
// their first probe, like those that come: without a frontend nobody asked them.
// A host that has never served sends them traffic meanwhile.
func (a *Agent) unprove(r *registration) {
	for _, m := range r.members.All {
		waits := *m
		waits.Serving, waits.Unproven = m.Serving && a.hap.cold, m.Serving && a.hap.cold
		r.members.Put(waits)
	}
}

// vanished tells whether a registration is not in the tree because the file in
// which it would be is not there.
func vanished(t *soaconfig.Tree, registration string) bool {
	service, _, _ := strings.Cut(registration, ".")
	s := t.Services[service]
	return s == nil || s.Namespaces.File == ""
}

type wanted struct {
	namespace discover.Namespace
	proxied   bool
}

// translate turns namespaces into sections. Two that want one port are a
// mistake that HAProxy would not survive: the one that has it keeps it.
func (a *Agent) translate(sound map[string]soaconfig.Namespace, kept map[string]error) map[string]wanted {
	all := map[string]wanted{}
	owner := map[int]string{}
	// Ports that HAProxy listens on for us, also for what is about to go: a
	// namespace that is renamed takes its port along.
	ours := map[int]bool{}
	for _, run := range a.hap.running {
		for _, b := range run.Service.Bind {
			ours[int(b.Port())] = true
		}
	}
	for name := range kept {
		if r := a.registrations[name]; r != nil && r.proxied {
			owner[r.namespace.Port] = name
		}
	}
	names := make([]string, 0, len(sound))
	for name := range sound {
		names = append(names, name)
	}
	// Those that have their port already come first.
	rank := func(name string) int {
		if r := a.registrations[name]; r != nil && r.proxied && sound[name].ProxyPort != nil && r.namespace.Port == *sound[name].ProxyPort {
			return 0
		}
		return 1
	}
	slices.SortFunc(names, func(x, y string) int {
		if c := rank(x) - rank(y); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for _, name := range names {
		ns := sound[name]
		if ns.ProxyPort == nil {
			all[name] = wanted{namespace: discover.Unproxied(ns, a.o.Settings)}
			continue
		}
		n, err := discover.NewNamespace(ns, a.o.Settings)
		if other, taken := owner[n.Port]; err == nil && taken {
			err = fmt.Errorf("proxy_port %d belongs to %s", n.Port, other)
		}
		if r := a.registrations[name]; err == nil && (r == nil || r.namespace.Port != n.Port) && !ours[n.Port] && !a.hap.has(name) {
			err = free(n.Service.Bind)
		}
		if err != nil {
			a.problems[name], a.retry = err, true // a port may be free soon
			kept[name] = err
			a.log.Error("left out a namespace", "registration", name, "err", err)
			continue
		}
		owner[n.Port] = name
		all[name] = wanted{n, true}
	}
	return all
}

// free tells whether the addresses can be listened on. A port that something
// else has would make HAProxy's new process fail, and the old one stop accepting
// for as long as the new one tries.
func free(bind []netip.AddrPort) error {
	var errs []error
	for _, b := range bind {
		l, err := net.Listen("tcp", b.String())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// references takes out proxied_through where that service is not here: requests
// then go straight, as they do while a proxy is down.
func (a *Agent) references() {
	for _, r := range a.registrations {
		if !r.proxied {
			continue
		}
		through := r.namespace.Source.ProxiedThrough
		if proxy := a.registrations[through]; through != "" && (proxy == nil || !proxy.proxied || through == r.name || proxy.namespace.Service.Mode != haproxy.ModeHTTP) {
			if a.problems[r.name] == nil {
				a.problems[r.name] = fmt.Errorf("proxied_through %s: no such service on this host", through)
			}
			through = ""
		}
		if r.namespace.Service.ProxiedThrough != through {
			r.namespace.Service.ProxiedThrough = through
			r.stale, r.dirty = true, true
			a.stir(r)
		}
	}
}
