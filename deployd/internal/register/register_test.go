package register

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
)

func TestOwner(t *testing.T) {
	t.Parallel()
	for task, want := range map[string]string{
		"my--web.main.git11111111.config22222222.3d59cc41-73f6-407c-acc7-a3161afa3e97":             "my_web.main",
		"web.main.git11111111.config22222222.instance-2f5a0ad3-44d9-11ea-a7f3-0242ac110003._app.3": "web.main",
		"web.main.git11111111.config22222222.marathon-2f5a0ad3-44d9-11ea-a7f3-0242ac110003":        "web.main",
		"prod_web.2f5a0ad3-44d9-11ea-a7f3-0242ac110003":                                            "",
		"": "",
	} {
		got, err := Owner(task)
		if want == "" {
			if err == nil {
				t.Errorf("Owner(%q) = %v, want an error", task, got)
			}
			continue
		}
		if err != nil || got.InstanceID.String() != want {
			t.Errorf("Owner(%q) = %v, %v, want %s", task, got, err, want)
		}
	}
}

const app = "web.main.git11111111.config22222222"

func node(task, cluster string, weight int) registry.Node {
	return registry.Node{Path: "/" + task, Entry: entry(task, cluster, weight)}
}

func entry(task, cluster string, weight int) registry.Entry {
	return registry.Entry{Host: "h", Port: 1, Weight: weight, Labels: map[string]string{
		registry.LabelCluster: cluster, registry.LabelTaskID: task,
	}}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const a, other = app + ".a", "web.canary.git11111111.config22222222.a"
	for _, tt := range []struct {
		name              string
		left              bool // the instance is not registered here any more
		nodes             []registry.Node
		tasks             map[string]Want
		add               []int // weights
		remove, unplanned []string
	}{
		{name: "a healthy task is registered", tasks: map[string]Want{a: Serve}, add: []int{10}},
		{name: "once", tasks: map[string]Want{a: Serve}, nodes: []registry.Node{node(a, "c", 10)}},
		{name: "what is not known stays", tasks: map[string]Want{a: Keep}, nodes: []registry.Node{node(a, "c", 10)}},
		{name: "and is not registered", tasks: map[string]Want{a: Keep}},
		{name: "draining changes the weight", tasks: map[string]Want{a: Drain}, nodes: []registry.Node{node(a, "c", 10)}, add: []int{0}, remove: []string{"/" + a}},
		{name: "a task that never served is not registered to drain", tasks: map[string]Want{a: Drain}},
		{name: "serving again changes it back", tasks: map[string]Want{a: Serve}, nodes: []registry.Node{node(a, "c", 0)}, add: []int{10}, remove: []string{"/" + a}},
		{name: "a drained task that is gone goes", nodes: []registry.Node{node(a, "c", 0)}, remove: []string{"/" + a}},
		{name: "one that was not drained is unplanned", nodes: []registry.Node{node(a, "c", 10)}, unplanned: []string{"/" + a}},
		{name: "so is one that fails", tasks: map[string]Want{a: Lost}, nodes: []registry.Node{node(a, "c", 10)}, unplanned: []string{"/" + a}},
		{name: "planned is planned", tasks: map[string]Want{a: Gone}, nodes: []registry.Node{node(a, "c", 10)}, remove: []string{"/" + a}},
		{name: "leaving a registration is unplanned", left: true, tasks: map[string]Want{a: Serve}, nodes: []registry.Node{node(a, "c", 10)}, unplanned: []string{"/" + a}},
		{name: "another cluster's is not ours", nodes: []registry.Node{node(a, "d", 10)}},
		{name: "nor another instance's", nodes: []registry.Node{node(other, "c", 10)}},
		{name: "nor one of nerve's", nodes: []registry.Node{{Path: "/x", Entry: registry.Entry{Host: "h", Port: 1, Weight: 10}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := Input{Cluster: "c", Instance: paasta.InstanceID{Service: "web", Instance: "main"}, Current: !tt.left, Nodes: tt.nodes}
			for task, want := range tt.tasks {
				in.Tasks = append(in.Tasks, Task{Task: marathon.Task{ID: task}, Want: want, Entry: entry(task, "c", 0)})
			}
			c := Decide(in)
			var add []int
			for _, e := range c.Add {
				add = append(add, e.Weight)
			}
			paths := func(nodes []registry.Node) (out []string) {
				for _, n := range nodes {
					out = append(out, n.Path)
				}
				return out
			}
			if diff := cmp.Diff([]any{tt.add, tt.remove, tt.unplanned}, []any{add, paths(c.Remove), paths(c.Unplanned)}); diff != "" {
				t.Errorf("add, remove, unplanned (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	ask := func(g *Guard, second int, ofService, ofCluster int, paths ...string) int {
		allowed, held, until := g.Ask(at(second), "web", "web.main", paths, ofService, ofCluster)
		if len(allowed)+held != len(paths) || (held > 0) == until.IsZero() {
			t.Errorf("%v of %v, %d held until %v", allowed, paths, held, until)
		}
		return len(allowed)
	}
	for _, tt := range []struct {
		name                 string
		ofService, ofCluster int
		paths                []string
		want                 int
	}{
		{"one of two, of many", 2, 30, []string{"a"}, 1},
		{"two of two", 2, 30, []string{"a", "b"}, 0},
		{"two of four", 4, 30, []string{"a", "b"}, 2},
		{"three of four", 4, 30, []string{"a", "b", "c"}, 0},
		{"a third of the cluster", 6, 6, []string{"a", "b"}, 2},
		{"more than a third of the cluster", 6, 6, []string{"a", "b", "c"}, 0},
	} {
		if got := ask(&Guard{Hold: 30 * time.Second}, 0, tt.ofService, tt.ofCluster, tt.paths...); got != tt.want {
			t.Errorf("%s: %d may go, want %d", tt.name, got, tt.want)
		}
	}

	g := &Guard{Hold: 30 * time.Second}
	for _, step := range []struct{ second, want int }{{0, 0}, {29, 0}, {30, 2}} {
		if got := ask(g, step.second, 2, 30, "a", "b"); got != step.want {
			t.Errorf("after %d s: %d may go, want %d", step.second, got, step.want)
		}
	}
	g = &Guard{Hold: 30 * time.Second}
	ask(g, 0, 2, 30, "a", "b")
	ask(g, 10, 2, 30) // they were there again
	if got := ask(g, 31, 2, 30, "a", "b"); got != 0 {
		t.Errorf("what came back and went again is held anew, %d may go", got)
	}
	if g.Held() != 2 {
		t.Errorf("Held() = %d", g.Held())
	}
	g.Confirm("web", at(32))
	if got := ask(g, 32, 2, 30, "a", "b"); got != 2 {
		t.Errorf("what is confirmed goes, %d may go", got)
	}
	// One after the other is as much as all at once.
	g = &Guard{Hold: 30 * time.Second}
	if a, b, c := ask(g, 0, 4, 40, "a"), ask(g, 1, 3, 39, "b"), ask(g, 2, 2, 38, "c"); a+b != 2 || c != 0 {
		t.Errorf("one by one %d %d %d may go, want 1 1 0", a, b, c)
	}
}
