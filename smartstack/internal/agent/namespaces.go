package agent

import (
	"context"
	"reflect"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// follow serves what the tree says.
func (a *Agent) follow(ctx context.Context) {
	changed, err := a.custom.read()
	if changed {
		a.pending.add(haproxy.CustomChanged, "custom_config changed")
	}
	p := planner{a.tree, a.registrations, a.proxy, &a.custom, a.o.Settings}.plan()
	for name, problem := range p.problems {
		if was := a.problems[name]; was == nil || was.Error() != problem.Error() {
			a.log.Error("a service is not served as soa-configs have it", "name", name, "err", problem)
		}
	}
	a.problems = p.problems
	if err != nil {
		a.problems[customProblem] = err
	}
	for name, r := range a.registrations {
		if _, ok := p.namespaces[name]; !ok && p.kept[name] == nil {
			a.drop(r)
			a.files.membersChanged(time.Now(), name)
			a.pending.add(haproxy.ServiceGone, name+" is gone")
			a.log.Info("stopped serving", "registration", name)
		}
	}
	for name, n := range p.namespaces {
		r := a.registrations[name]
		known := r != nil
		if !known {
			r = a.serve(ctx, n)
		}
		listening := a.proxy.has(name)
		if n.Proxied() && r.refused.stands(n, a.proxy.holds(n), free) {
			a.problems[name] = r.refused.err
			continue
		}
		if r.namespace.Proxied() && !n.Proxied() && listening {
			a.pending.add(haproxy.ServiceGone, name+" has no proxy_port any more")
		}
		if n.Proxied() && !listening && (known && !r.namespace.Proxied() || !known && a.proxy.pid != 0) {
			r.unverify(a.proxy.cold)
		}
		if r.refused != nil || !reflect.DeepEqual(r.namespace.Source, n.Source) {
			r.namespace, r.refused = n, nil
			a.dirty[r] = true
		}
	}
	for _, r := range a.registrations {
		a.touched[r] = true // its problem may be another
	}
	a.references(a.problems)
	a.files.good.dirty(time.Now())
}

// firstResolve is how long the first read of a registration waits for the
// addresses of hosts that it gives by name.
const firstResolve = 3 * time.Second

// serve begins with a registration, and watches it until its end.
func (a *Agent) serve(ctx context.Context, n discover.Namespace) *registration {
	r := &registration{name: n.Registration, namespace: n}
	r.ctx, r.stop = context.WithCancel(ctx)
	r.members = a.files.journal.members(r.name, &a.resolver)
	a.registrations[r.name] = r
	a.proxy.imported(r)
	first := true
	a.watcher.Watch(r.ctx, r.name, func(set registry.Set, err error) {
		e := registryRead{registration: r.name, set: set, err: err, at: time.Now()}
		if err == nil {
			e.hosts = discover.Hosts(set)
			a.resolver.Want(r, e.hosts)
			if first { // else servers that HAProxy has look as if they had gone
				ctx, cancel := context.WithTimeout(r.ctx, firstResolve)
				a.resolver.Await(ctx, e.hosts)
				cancel()
			}
			first = false
		}
		a.events.put(e)
	}, func() { a.resolver.Want(r, nil) })
	a.dirty[r] = true
	a.log.Info("started serving", "registration", r.name, "port", n.Port)
	return r
}
