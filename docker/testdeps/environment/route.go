package environment

import (
	"net"
	"strconv"

	"github.com/gopaasta/paasta/docker/testdeps/gateway"
	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// primary is the namespace that a service's node is registered in first, nil
// when that is not the service's own or does not exist.
func primary(n *graph.Node) *soaconfig.Namespace {
	if len(n.Instance.Registrations) == 0 {
		return nil
	}
	r, err := paasta.ParseRegistration(n.Instance.Registrations[0])
	if err != nil || r.Service != n.Service.Name {
		return nil
	}
	if ns, ok := n.Service.Namespaces.Valid[r.Namespace]; ok {
		return &ns
	}
	return nil
}

// scheme is how clients speak to a node: http or tcp.
func scheme(n *graph.Node) string {
	if n.Service == nil {
		if n.Dep.Ready.HTTP != "" {
			return "http"
		}
		return "tcp"
	}
	if ns := primary(n); ns != nil && ns.Mode != "http" {
		return "tcp"
	}
	return "http"
}

// portsOf is every proxy port of soa-configs.
func portsOf(tree *soaconfig.Tree) map[int]gateway.Port {
	ports := map[int]gateway.Port{}
	for _, s := range tree.Services {
		for name, ns := range s.Namespaces.Valid {
			if ns.ProxyPort != nil {
				ports[*ns.ProxyPort] = gateway.Port{Namespace: s.Name + "." + name, HTTP: ns.Mode == "http"}
			}
		}
	}
	return ports
}

// clientOf says where the proxy ports lead for somebody who needs those edges.
// Two instances in one namespace share its port.
func clientOf(name, declares string, needs []graph.Edge, tree *soaconfig.Tree, p place) gateway.Client {
	c := gateway.Client{Name: name, Declares: declares, Routes: map[int]gateway.Route{}}
	for _, e := range needs {
		if e.To.Service == nil || e.To.Port() == 0 {
			continue
		}
		target := net.JoinHostPort(p.address(e.To).String(), strconv.Itoa(e.To.Port()))
		for _, registration := range e.To.Instance.Registrations {
			r, err := paasta.ParseRegistration(registration)
			if err != nil || tree.Services[r.Service] == nil {
				continue
			}
			ns, ok := tree.Services[r.Service].Namespaces.Valid[r.Namespace]
			if !ok || ns.ProxyPort == nil {
				continue
			}
			route := c.Routes[*ns.ProxyPort]
			route.Dependency, route.Targets = e.Name, append(route.Targets, target)
			c.Routes[*ns.ProxyPort] = route
		}
	}
	return c
}

// gatewayConfig is what the environment's gateway does.
func gatewayConfig(g *graph.Graph, tree *soaconfig.Tree, l layout, p place, checks map[string]gateway.Check) gateway.Config {
	c := gateway.Config{
		Address: l.gateway().String(), Router: l.router().String(), Bits: networkBits,
		Otherwise: l.nobody().String(), Clients: map[string]gateway.Client{}, Ports: portsOf(tree), Checks: checks,
	}
	if p.bind == "" { // others than the engine's machine call
		c.Next = l.engine().String()
	}
	c.Clients[c.Otherwise] = clientOf(g.Service.Name, g.Service.TestDeps.File, g.Needs, tree, p)
	for _, n := range g.Nodes {
		if n.Service == nil {
			c.Clients[p.address(n).String()] = gateway.Client{Name: n.Name, Declares: n.Owner.TestDeps.File}
			continue
		}
		c.Clients[p.address(n).String()] = clientOf(n.Name, n.Service.TestDeps.File, n.Needs, tree, p)
	}
	return c
}
