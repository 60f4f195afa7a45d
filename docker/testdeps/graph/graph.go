// Package graph says what an environment of test dependencies consists of: what
// a service's test-dependencies.yaml names, what those services' own files name,
// and so on. It is pure but for the function that reads a service.
package graph

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A Graph is all dependencies of a service, transitively.
type Graph struct {
	Service *soaconfig.Service // whose environment it is
	Needs   []Edge             // its own dependencies, by name
	Nodes   []*Node            // all, each after those that it needs
	Notes   []string           // what the owner may not expect, one sentence each
}

// A Node is one dependency, which is started once, however many need it.
type Node struct {
	Name  string                   // unique here: as the service itself calls it, else "parent.name"
	Owner *soaconfig.Service       // whose file has the declaration that counts
	Dep   soaconfig.TestDependency // that declaration
	Depth int                      // 1 for the service's own

	// Of one of our services; Service is nil for an image.
	Service  *soaconfig.Service
	Instance soaconfig.Instance
	Group    string // deploy group whose marked commit it runs

	Needs []Edge // its own dependencies, by name
}

// An Edge is a need, under the name by which the one who needs it calls it.
type Edge struct {
	Name string
	To   *Node
}

// A CycleError is services that need each other to be tested.
type CycleError struct{ Path []string } // the first and the last are the same

func (e CycleError) Error() string {
	return "test dependencies go in a circle: " + strings.Join(e.Path, " → ") + " (with_dependencies: false at one of them cuts it)"
}

// Build reads what service needs. load returns a service of soa-configs; it is
// called once for each.
func Build(service string, load func(name string) (*soaconfig.Service, error)) (*Graph, error) {
	b := &builder{load: load, services: map[string]*soaconfig.Service{}, nodes: map[string]*Node{}, expands: map[string][]string{}}
	root, err := b.service(service)
	if err != nil {
		return nil, err
	}
	b.g = &Graph{Service: root}
	if err := b.expand(root, nil); err != nil {
		return nil, err
	}
	// Breadth first, so that of two declarations of one dependency the one that
	// is nearer to the service counts.
	var errs []error
	for len(b.queue) > 0 {
		n := b.queue[0]
		b.queue = b.queue[1:]
		if err := b.expand(n.Service, n); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if path := b.cycle(service, nil, map[string]bool{}); path != nil {
		return nil, CycleError{path}
	}
	done := map[*Node]bool{}
	for _, e := range b.g.Needs {
		b.order(e.To, done)
	}
	b.g.Nodes = b.ordered
	return b.g, nil
}

type builder struct {
	load     func(string) (*soaconfig.Service, error)
	services map[string]*soaconfig.Service
	g        *Graph
	nodes    map[string]*Node    // services, by service, instance, and whether with dependencies
	expands  map[string][]string // service → services that it needs
	queue    []*Node             // whose own dependencies are still to be read
	ordered  []*Node
}

func (b *builder) service(name string) (*soaconfig.Service, error) {
	if s := b.services[name]; s != nil {
		return s, nil
	}
	s, err := b.load(name)
	if err != nil {
		return nil, err
	}
	b.services[name] = s
	return s, nil
}

// expand reads the test dependencies of s, for the node, nil for the root.
func (b *builder) expand(s *soaconfig.Service, parent *Node) error {
	d := s.TestDeps
	if len(d.Unreadable) > 0 {
		return d.Unreadable
	}
	var errs []error
	if len(d.Invalid) > 0 { // an unknown key, which breaks nothing by itself, may be why
		errs = append(errs, slices.DeleteFunc(slices.Clone(s.Problems), func(p soaconfig.Problem) bool { return p.File != d.File }))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Valid)) {
		n, err := b.node(s, parent, d.Valid[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", d.File, name, err))
			continue
		}
		needs := &b.g.Needs
		if parent != nil {
			needs = &parent.Needs
		}
		*needs = append(*needs, Edge{name, n})
		if n.Service != nil && n.Dep.WithDependencies {
			b.expands[s.Name] = append(b.expands[s.Name], n.Service.Name)
		}
	}
	return errors.Join(errs...)
}

// node returns the node of a declaration: a new one, or that of a service which
// somebody has declared before.
func (b *builder) node(s *soaconfig.Service, parent *Node, dep soaconfig.TestDependency) (*Node, error) {
	n := &Node{Name: dep.Name, Owner: s, Dep: dep, Depth: 1}
	if parent != nil {
		n.Name, n.Depth = parent.Name+"."+dep.Name, parent.Depth+1
	}
	if dep.Service == "" {
		return n, nil
	}
	of, err := b.service(dep.Service)
	if err != nil {
		return nil, err
	}
	n.Service = of
	if n.Instance, n.Group, err = pick(of, dep); err != nil {
		return nil, err
	}
	// One without its dependencies is another thing than one with them: sharing
	// it could close the very circle that it is there to cut.
	key := fmt.Sprint(of.Name, "/", n.Instance.Cluster, ".", n.Instance.Name, dep.WithDependencies)
	if known := b.nodes[key]; known != nil {
		if !same(known, n) {
			b.g.Notes = append(b.g.Notes, fmt.Sprintf("%s and %s declare %s differently: what %s says counts", known.Owner.Name, s.Name, of.Name, known.Owner.Name))
		}
		return known, nil
	}
	b.nodes[key] = n
	if dep.WithDependencies {
		b.queue = append(b.queue, n)
	}
	return n, nil
}

// same tells whether two declarations ask for one and the same container.
func same(a, b *Node) bool {
	x, y := a.Dep, b.Dep
	sameCmd := x.Cmd == y.Cmd || x.Cmd != nil && y.Cmd != nil && *x.Cmd == *y.Cmd
	return a.Group == b.Group && x.Commit == y.Commit && x.Build == y.Build &&
		x.Port == y.Port && sameCmd && slices.Equal(x.Args, y.Args) && maps.Equal(x.Env, y.Env) &&
		slices.Equal(x.Tmpfs, y.Tmpfs) && maps.Equal(x.Files, y.Files) && x.Ready == y.Ready
}

// pick returns the instance that a declaration means, and its deploy group.
func pick(s *soaconfig.Service, dep soaconfig.TestDependency) (soaconfig.Instance, string, error) {
	var all []soaconfig.Instance
	var broken []error
	for _, cluster := range s.Clusters {
		e := s.Instances[cluster]
		if dep.Instance != "" {
			if _, found, err := e.Find(dep.Instance); found && err != nil {
				return soaconfig.Instance{}, "", err
			}
		}
		if len(e.Unreadable) > 0 {
			broken = append(broken, e.Unreadable)
		}
		for _, name := range slices.Sorted(maps.Keys(e.Invalid)) {
			broken = append(broken, e.Invalid[name])
		}
		all = append(all, slices.SortedFunc(maps.Values(e.Valid), func(a, b soaconfig.Instance) int { return cmp.Compare(a.Name, b.Name) })...)
	}
	if len(all) == 0 {
		err := fmt.Errorf("the service %s has no instance that could be started in %s", s.Name, s.Dir)
		return soaconfig.Instance{}, "", errors.Join(append([]error{err}, broken...)...)
	}
	group, why := dep.DeployGroup, "deploy_group"
	if group == "" {
		group, why = s.Deploy.ProductionGroup, "production_deploy_group of "+s.Name
	}
	var fit []soaconfig.Instance
	var groups, names []string
	for _, i := range all {
		names = append(names, i.Name)
		if dep.Instance != "" && i.Name != dep.Instance {
			continue
		}
		groups = append(groups, i.DeployGroup)
		if group == "" || i.DeployGroup == group {
			fit = append(fit, i)
		}
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	slices.Sort(names)
	switch {
	case len(groups) == 0:
		return soaconfig.Instance{}, "", fmt.Errorf("the service %s has no instance %q (known: %s)", s.Name, dep.Instance, strings.Join(slices.Compact(names), ", "))
	case len(fit) == 0:
		return soaconfig.Instance{}, "", fmt.Errorf("no such instance of %s is in the deploy group %s, its %s (known: %s)", s.Name, group, why, strings.Join(groups, ", "))
	case group == "" && len(groups) > 1:
		return soaconfig.Instance{}, "", fmt.Errorf("%s has no production_deploy_group in its deploy.yaml: say here which deploy_group (known: %s)", s.Name, strings.Join(groups, ", "))
	}
	return fit[0], fit[0].DeployGroup, nil
}

// cycle returns a way from service back to something on the way, nil if there
// is none.
func (b *builder) cycle(service string, way []string, clear map[string]bool) []string {
	if at := slices.Index(way, service); at >= 0 {
		return append(slices.Clone(way[at:]), service)
	}
	if clear[service] {
		return nil
	}
	way = append(way, service)
	for _, next := range b.expands[service] {
		if path := b.cycle(next, way, clear); path != nil {
			return path
		}
	}
	clear[service] = true
	return nil
}

// order puts n behind all that it needs.
func (b *builder) order(n *Node, done map[*Node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	for _, e := range n.Needs {
		b.order(e.To, done)
	}
	b.ordered = append(b.ordered, n)
}

// Port is where the node listens, 0 when it does not.
func (n *Node) Port() int {
	if n.Dep.Port != 0 || n.Service == nil {
		return n.Dep.Port
	}
	return n.Instance.ContainerPort
}
