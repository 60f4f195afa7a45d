package graph_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// tree writes soa-configs; each service has the instances main and, in another
// group, canary.
func tree(t testing.TB, deps map[string]string) func(string) (*soaconfig.Service, error) {
	t.Helper()
	dir := t.TempDir()
	for service, text := range deps {
		for file, text := range map[string]string{
			"marathon-test.yaml":     "main: {deploy_group: prod}\ncanary: {deploy_group: canary}\nalso: {deploy_group: prod}\n",
			"deploy.yaml":            "pipeline: [{step: canary}, {step: prod}]\nproduction_deploy_group: prod\n",
			"test-dependencies.yaml": text,
		} {
			path := filepath.Join(dir, service, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return func(name string) (*soaconfig.Service, error) {
		return soaconfig.LoadService(dir, name, soaconfig.Options{})
	}
}

const db = "db: {image: 'mysql:8', port: 3306}\n"

func TestBuild(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		deps  map[string]string
		nodes string // in order
		err   string
	}{
		"nothing": {map[string]string{"web": "{}"}, "", ""},
		"images of two services stay apart": {
			map[string]string{"web": "users: {service: users}\norders: {service: orders}\n", "users": db, "orders": db},
			"orders.db orders users.db users", "",
		},
		"a shared service is there once, under the name of the nearest": {
			map[string]string{"web": "orders: {service: orders}\npeople: {service: users}\n", "orders": "users: {service: users}\n", "users": db},
			"people.db people orders", "",
		},
		"two instances are two": {
			map[string]string{"web": "a: {service: users}\nb: {service: users, instance: main}\nc: {service: users, deploy_group: canary}\n", "users": "{}"},
			"a b c", "",
		},
		"a circle": {
			map[string]string{"web": "users: {service: users}\n", "users": "orders: {service: orders}\n", "orders": "users: {service: users}\n"},
			"", "test dependencies go in a circle: users → orders → users (with_dependencies: false at one of them cuts it)",
		},
		"a circle through the service itself": {
			map[string]string{"web": "users: {service: users}\n", "users": "web: {service: web}\n"},
			"", "test dependencies go in a circle: web → users → web",
		},
		"with_dependencies cuts": {
			map[string]string{"web": "users: {service: users, with_dependencies: false}\n", "users": "web: {service: web}\n"},
			"users", "",
		},
		"its own last version": {map[string]string{"web": "old: {service: web, with_dependencies: false}\n"}, "old", ""},
		"no such service":      {map[string]string{"web": "users: {service: usres}\n", "users": "{}"}, "", "usres"},
		"no such instance": {
			map[string]string{"web": "users: {service: users, instance: mian}\n", "users": "{}"},
			"", `the service users has no instance "mian" (known: also, canary, main)`,
		},
		"no such group": {
			map[string]string{"web": "users: {service: users, deploy_group: beta}\n", "users": "{}"},
			"", "no such instance of users is in the deploy group beta, its deploy_group (known: canary, prod)",
		},
		"a broken declaration":    {map[string]string{"web": "users: {servcie: users}\n", "users": "{}"}, "", "test-dependencies.yaml:1:"},
		"a broken file of others": {map[string]string{"web": "users: {service: users}\n", "users": "db: [\n"}, "", "users/test-dependencies.yaml"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := graph.Build("web", tree(t, test.deps))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error is %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, n := range g.Nodes {
				names = append(names, n.Name)
			}
			if got := strings.Join(names, " "); got != test.nodes {
				t.Errorf("nodes are %q, want %q", got, test.nodes)
			}
		})
	}
}

func TestNearestDeclarationCounts(t *testing.T) {
	t.Parallel()
	g, err := graph.Build("web", tree(t, map[string]string{
		"web": "a: {service: orders}\nusers: {service: users, commit: abcdef01}\n", "orders": "users: {service: users}\n", "users": "{}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes {
		if n.Name == "users" && n.Dep.Commit != "abcdef01" {
			t.Errorf("users runs commit %q", n.Dep.Commit)
		}
	}
	if want := "web and orders declare users differently: what web says counts"; !slices.Contains(g.Notes, want) {
		t.Errorf("notes are %q", g.Notes)
	}
}

// Whatever services need each other: either there is a circle, and the path
// that the error shows is one, or each node comes after all that it needs.
func TestAnyGraph(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		const services = 6
		edges := map[string][]string{}
		all := map[string]*soaconfig.Service{}
		for n := range services {
			name := fmt.Sprintf("s%d", n)
			s := &soaconfig.Service{
				Name: name, Clusters: []string{"test"},
				Instances: map[string]soaconfig.Entries[soaconfig.Instance]{"test": {Valid: map[string]soaconfig.Instance{
					"main": {Service: name, Cluster: "test", Name: "main", DeployGroup: "prod"},
				}}},
				TestDeps: soaconfig.Entries[soaconfig.TestDependency]{Valid: map[string]soaconfig.TestDependency{}},
			}
			for other := range services {
				if rapid.IntRange(0, 4).Draw(r, "needs") == 0 {
					to := fmt.Sprintf("s%d", other)
					with := rapid.Bool().Draw(r, "with")
					s.TestDeps.Valid[to] = soaconfig.TestDependency{Name: to, Service: to, WithDependencies: with}
					if with {
						edges[name] = append(edges[name], to)
					}
				}
			}
			all[name] = s
		}
		g, err := graph.Build("s0", func(name string) (*soaconfig.Service, error) { return all[name], nil })
		if cycle, ok := errors.AsType[graph.CycleError](err); ok {
			p := cycle.Path
			if len(p) < 2 || p[0] != p[len(p)-1] {
				r.Fatalf("the path %v is no circle", p)
			}
			for n := range len(p) - 1 {
				if !slices.Contains(edges[p[n]], p[n+1]) {
					r.Fatalf("%s does not need %s", p[n], p[n+1])
				}
			}
			return
		}
		if err != nil {
			r.Fatal(err)
		}
		seen := map[*graph.Node]bool{}
		names := map[string]bool{}
		for _, n := range g.Nodes {
			for _, e := range n.Needs {
				if !seen[e.To] {
					r.Fatalf("%s comes before %s", n.Name, e.To.Name)
				}
			}
			if names[n.Name] {
				r.Fatalf("two are called %s", n.Name)
			}
			seen[n], names[n.Name] = true, true
		}
	})
}
