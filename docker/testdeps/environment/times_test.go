package environment

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func imageNode(image string, needs ...*graph.Node) *graph.Node {
	n := &graph.Node{Name: image, Dep: soaconfig.TestDependency{Image: image, Ready: soaconfig.Ready{Timeout: time.Minute}}}
	for _, to := range needs {
		n.Needs = append(n.Needs, graph.Edge{Name: to.Name, To: to})
	}
	return n
}

func TestUrgencies(t *testing.T) {
	t.Parallel()
	quick, slow, db := imageNode("quick"), imageNode("slow"), imageNode("db")
	users := imageNode("users", db)
	web := imageNode("web", users, quick)
	known := times{{"image quick", 100 * time.Millisecond}, {"image slow", 3 * time.Second}, {"image db", 500 * time.Millisecond}, {"image web", time.Second}}
	of, gateway := urgencies([]*graph.Node{quick, slow, db, users, web}, known)
	got := map[string]time.Duration{"gateway": gateway}
	for n, d := range of {
		got[n.Name] = d
	}
	if diff := cmp.Diff(map[string]time.Duration{
		"web": 1300 * time.Millisecond, "quick": 1700 * time.Millisecond, "slow": 3300 * time.Millisecond,
		"users":   3600 * time.Millisecond, // 2 s are a guess
		"db":      4400 * time.Millisecond,
		"gateway": 3600 * time.Millisecond,
	}, got); diff != "" {
		t.Error(diff)
	}
	if _, gateway := urgencies([]*graph.Node{quick, slow}, known); gateway != 0 {
		t.Errorf("nobody waits for the gateway: %v", gateway)
	}
}

// What is remembered is found again, the latest wins, and there is an end to it.
func TestTimes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "new", "times.json")
	if got := loadTimes(file); got != nil {
		t.Errorf("of no file: %v", got)
	}
	var old times
	for n := range remembered {
		old = append(old, timed{fmt.Sprint("image ", n), time.Second})
	}
	all := old.with(times{{"image 7", 2 * time.Second}, {"image new", time.Minute}})
	if len(all) != remembered || all.of(imageNode("7")) != 2*time.Second || all.of(imageNode("new")) != time.Minute || all.of(imageNode("0")) != time.Second {
		t.Errorf("%d are kept: %v", len(all), all[:3])
	}
	if err := all.save(file); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, loadTimes(file)); diff != "" {
		t.Error(diff)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
	for _, text := range []string{"", "{}", `[{"of": 3}]`, "null"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := loadTimes(file); len(got) != 0 {
			t.Errorf("of %q: %v", text, got)
		}
	}
}
