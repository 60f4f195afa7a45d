package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
)

// A plan is what to serve by what soa-configs say.
type plan struct {
	namespaces map[string]discover.Namespace // by registration
	kept       map[string]error              // that are served as they were, and why
	problems   map[string]error
}

// A planner decides what to serve, from what soa-configs say and what is served now.
type planner struct {
	tree          *soaconfig.Tree
	registrations map[string]*registration
	proxy         *proxy
	custom        *custom
	settings      discover.Settings
}

// plan decides what to serve. A namespace that is invalid keeps what it was; others
// do not notice.
func (a planner) plan() plan {
	p := plan{map[string]discover.Namespace{}, map[string]error{}, map[string]error{}}
	valid := map[string]soaconfig.Namespace{}
	keep := func(name string, why error) { p.kept[name], p.problems[name] = why, why }
	for _, s := range a.tree.Services {
		for name, ns := range s.Namespaces.Valid {
			if ns.Registered || ns.ProxyPort != nil {
				valid[s.Name+"."+name] = ns
			}
		}
		for name, problems := range s.Namespaces.Invalid {
			keep(s.Name+"."+name, problems)
		}
		if len(s.Namespaces.Unreadable) == 0 {
			continue
		}
		p.problems[s.Name] = s.Namespaces.Unreadable
		for name := range a.registrations {
			if _, ok := valid[name]; !ok && p.kept[name] == nil && strings.HasPrefix(name, s.Name+".") {
				p.kept[name] = s.Namespaces.Unreadable
			}
		}
	}
	for name, r := range a.registrations {
		ns, ok := valid[name]
		goes := !ok && p.kept[name] == nil
		switch members := len(r.members.All); {
		case r.namespace.Proxied() && (goes || ok && ns.ProxyPort == nil) && a.custom.refersTo(r.namespace):
			// Without it HAProxy would refuse the operator's sections, and with them
			// every reload.
			delete(valid, name)
			keep(name, errors.New("custom_config refers to it: it is served as it was until that does not"))
		case goes && members > 0 && vanished(a.tree, name):
			// A service whose directory or smartstack.yaml vanished, and whose tasks
			// are registered all the same, looks like an accident to its files. deployd
			// holds its apps in that case; here it is served until they are gone. A
			// namespace that its own file does not have any more goes at once.
			keep(name, fmt.Errorf("its smartstack.yaml is gone, it is served as it was while %d servers are registered", members))
		}
	}
	a.translate(&p, valid)
	return p
}

// vanished tells whether a registration is not in the tree because the file in
// which it would be is not there.
func vanished(t *soaconfig.Tree, registration string) bool {
	service, _, _ := strings.Cut(registration, ".")
	s := t.Services[service]
	return s == nil || s.Namespaces.File == ""
}

// translate turns namespaces into sections. Two that want one port are a mistake
// that HAProxy would not survive: the one that has it keeps it.
func (a planner) translate(p *plan, valid map[string]soaconfig.Namespace) {
	owner := map[int]string{}
	for name := range p.kept {
		if r := a.registrations[name]; r != nil && r.namespace.Proxied() {
			owner[r.namespace.Port] = name
		}
	}
	// Those that have their port already come first.
	has := func(name string) int {
		if r := a.registrations[name]; r != nil && r.namespace.Proxied() && valid[name].ProxyPort != nil && r.namespace.Port == *valid[name].ProxyPort {
			return 0
		}
		return 1
	}
	names := slices.SortedFunc(maps.Keys(valid), func(x, y string) int { return cmp.Or(has(x)-has(y), strings.Compare(x, y)) })
	for _, name := range names {
		ns := valid[name]
		if ns.ProxyPort == nil {
			p.namespaces[name] = discover.Unproxied(ns, a.settings)
			continue
		}
		n, err := namespaceOf(ns, a.settings, owner)
		// HAProxy may listen on the port for what is about to go: a namespace that is
		// renamed takes its port along.
		if err == nil && has(name) != 0 && !a.proxy.holds(n) {
			err = free(n.Service.Bind)
		}
		if err != nil {
			p.kept[name], p.problems[name] = err, err
			continue
		}
		owner[n.Port] = name
		p.namespaces[name] = n
	}
}

// namespaceOf makes a namespace with a proxy_port that nobody else has.
func namespaceOf(ns soaconfig.Namespace, settings discover.Settings, owner map[int]string) (discover.Namespace, error) {
	n, err := discover.NewNamespace(ns, settings)
	if other, taken := owner[n.Port]; err == nil && taken {
		err = fmt.Errorf("proxy_port %d belongs to %s", n.Port, other)
	}
	return n, err
}

// free tells whether the addresses can be listened on. A port that something else
// has would make HAProxy's new process fail, and the old one stop accepting for as
// long as the new one tries.
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
