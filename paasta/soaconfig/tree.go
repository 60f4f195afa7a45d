package soaconfig

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// Options say what a tree is read against.
type Options struct {
	// Clusters are the known clusters; a file for another one is a problem. Nil
	// takes the clusters from the file names.
	Clusters []string
}

// A Tree is one reading of a soa-configs directory: immutable, safe to share.
type Tree struct {
	Dir      string
	Services map[string]*Service
	Problems Problems // of all services, and across them (two with one proxy_port)
}

// Load reads the directory. It fails only when dir itself cannot be read; what
// is wrong inside is in Problems, and the sound rest is usable.
func Load(ctx context.Context, dir string, o Options) (*Tree, error) {
	names, problems, err := listServices(dir)
	if err != nil {
		return nil, err
	}
	parsed := make([]*Service, len(names))
	err = inParallel(ctx, len(names), func(i int) { parsed[i] = parseService(dir, names[i], o) })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	raw := make(map[string]*Service, len(names))
	for _, s := range parsed {
		raw[s.Name] = s
	}
	return assemble(dir, raw, problems, nil), nil
}

// inParallel calls do for 0 to n-1, on as many goroutines as there are CPUs.
func inParallel(ctx context.Context, n int, do func(int)) error {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), n)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// LoadService reads one service of dir. It is an error if there is no such
// directory; problems inside are in the Service. Of other services it reads
// only the namespaces that this one names; whether another one has its
// proxy_port, only Load knows.
func LoadService(dir, service string, o Options) (*Service, error) {
	if !serviceName.re.MatchString(service) {
		return nil, fmt.Errorf("%q is no name of a service: want %s", service, serviceName.want)
	}
	info, err := os.Stat(filepath.Join(dir, service))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("service %s: %s is no directory", service, filepath.Join(dir, service))
	}
	s := parseService(dir, service, o)
	others := map[string]*Service{service: s}
	for _, r := range s.references {
		name, _, _ := strings.Cut(r.name, ".")
		if others[name] != nil {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.IsDir() {
			other := &Service{Name: name}
			other.Namespaces, _ = other.readNamespaces(readDocument(filepath.Join(dir, name, smartstackFile)))
			others[name] = other
		}
	}
	return assemble(dir, others, nil, nil).Services[service], nil
}

// Names lists the services of dir, sorted, without reading their files.
func Names(dir string) ([]string, error) {
	names, _, err := listServices(dir)
	return names, err
}

// listServices lists the services of dir, and what looks like one and is none.
func listServices(dir string) ([]string, Problems, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read soa-configs: %w", err)
	}
	var names []string
	var problems Problems
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		is, err := isService(dir, e)
		if err != nil {
			problems = append(problems, Problem{Class: Wrong, File: path, Text: reason(err)})
			continue
		}
		if !is {
			continue
		}
		if !serviceName.re.MatchString(e.Name()) || strings.Contains(e.Name(), "--") {
			if files, err := filepath.Glob(filepath.Join(path, "*.yaml")); err == nil && len(files) > 0 {
				problems = append(problems, Problem{Class: Wrong, File: path, Text: fmt.Sprintf("%q is no name of a service: want %s, and no --", e.Name(), serviceName.want)})
			}
			continue
		}
		names = append(names, e.Name())
	}
	return names, problems, nil
}

// assemble makes a tree of services that were read one by one: it adds what is
// wrong between them. A service is copied when that changes it, so raw stays as
// it is; one that comes out as in old keeps its pointer there.
func assemble(dir string, raw map[string]*Service, problems Problems, old *Tree) *Tree {
	t := &Tree{Dir: dir, Services: make(map[string]*Service, len(raw)), Problems: slices.Clone(problems)}
	taken := clashes(raw)
	for name, s := range raw {
		extra := taken[name]
		var missing Problems
		for _, r := range s.references {
			if p, ok := r.missing(raw); ok {
				missing = append(missing, p)
			}
		}
		if len(extra) > 0 || len(missing) > 0 {
			s = s.with(extra, missing)
		}
		if old != nil {
			if before := old.Services[name]; before != nil && same(before, s) {
				s = before
			}
		}
		t.Services[name] = s
		t.Problems = append(t.Problems, s.Problems...)
	}
	t.Problems = t.Problems.sorted()
	return t
}

// with returns a copy of s with further broken namespaces and problems.
func (s *Service) with(namespaces map[string]Problems, problems Problems) *Service {
	c := *s
	c.Problems = append(slices.Clone(s.Problems), problems...)
	if len(namespaces) > 0 {
		c.Namespaces.Valid, c.Namespaces.Invalid = maps.Clone(s.Namespaces.Valid), maps.Clone(s.Namespaces.Invalid)
		c.Clashing = map[string]Namespace{}
		for name, p := range namespaces {
			if ns, ok := s.Namespaces.Valid[name]; ok {
				c.Clashing[name] = ns
			}
			delete(c.Namespaces.Valid, name)
			c.Namespaces.Invalid[name] = append(slices.Clone(s.Namespaces.Invalid[name]), p...)
			c.Problems = append(c.Problems, p...)
		}
	}
	c.Problems = c.Problems.sorted()
	return &c
}

// A portUse is a place where a namespace asks for a port.
type portUse struct {
	port               int
	service, namespace string
	at                 Problem // without text
}

// clashes finds namespaces with one proxy_port, by service and name. All of
// them are broken: nobody can say which one was there first.
func clashes(services map[string]*Service) map[string]map[string]Problems {
	byPort := map[int][]portUse{}
	for _, s := range services {
		for _, use := range s.ports {
			byPort[use.port] = append(byPort[use.port], use)
		}
	}
	found := map[string]map[string]Problems{}
	for port, uses := range byPort {
		if len(uses) < 2 {
			continue
		}
		slices.SortFunc(uses, func(a, b portUse) int {
			return cmp.Or(strings.Compare(a.service, b.service), strings.Compare(a.namespace, b.namespace))
		})
		for i, use := range uses {
			other := uses[(i+1)%len(uses)]
			p := use.at
			p.Text = fmt.Sprintf("%d is the port of %s.%s, too (%s:%d)", port, other.service, other.namespace, other.at.File, other.at.Line)
			if found[use.service] == nil {
				found[use.service] = map[string]Problems{}
			}
			found[use.service][use.namespace] = Problems{p}
		}
	}
	return found
}

// A reference is a name that should be in another service's files.
type reference struct {
	name string  // "service.namespace", or "service" for the service as such
	at   Problem // without text
}

// missing reports a reference to something that does not exist. It is a
// problem of whoever refers to it, but breaks nothing: another team's change
// must not stop this one's deployments.
func (r reference) missing(services map[string]*Service) (Problem, bool) {
	service, namespace, isRegistration := strings.Cut(r.name, ".")
	p := r.at
	p.Class = Wrong
	other := services[service]
	if other == nil {
		p.Text = quote(r.name) + ": there is no service " + service
		if near := spelling.Nearest(service, slices.Sorted(maps.Keys(services))); near != "" {
			p.Text += fmt.Sprintf(" (did you mean %q?)", strings.Replace(r.name, service, near, 1))
		}
		return p, true
	}
	if !isRegistration {
		return p, false
	}
	if _, found, _ := other.Namespaces.Find(namespace); found {
		return p, false
	}
	p.Text = noNamespace(r.name, other.Namespaces)
	return p, true
}
