package soaconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A watched is a running Watcher and what it said.
type watched struct {
	t     *testing.T
	trees chan *Tree
	names chan []string
	errs  chan error
}

func watch(t *testing.T, dir string, resync time.Duration) *watched {
	t.Helper()
	w := &watched{t, make(chan *Tree, 100), make(chan []string, 100), make(chan error, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		watcher := Watcher{Dir: dir, Resync: resync}
		done <- watcher.Run(ctx, func(tree *Tree, names []string) {
			w.trees <- tree
			w.names <- names
		}, func(err error) {
			select {
			case w.errs <- err:
			default: // it is said again and again
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	return w
}

// until waits for a tree of which ok holds, and returns it with all services
// that were said to have changed on the way.
func (w *watched) until(what string, ok func(*Tree) bool) (*Tree, []string) {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	var changed []string
	for {
		select {
		case tree := <-w.trees:
			changed = append(changed, <-w.names...)
			if ok(tree) {
				slices.Sort(changed)
				return tree, slices.Compact(changed)
			}
		case <-deadline:
			w.t.Fatalf("waited 10s for: %s", what)
		}
	}
}

func sizeOf(service string, size int) func(*Tree) bool {
	return func(t *Tree) bool {
		s := t.Services[service]
		return s != nil && s.Instances["norcal"].Valid["main"].Size == size
	}
}

func instances(n int) string { return fmt.Sprintf("main: {instances: %d}\n", n) }

func TestWatcher(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web/marathon-norcal.yaml", instances(1))
	put(t, dir, "api/marathon-norcal.yaml", instances(1))
	w := watch(t, dir, time.Hour)
	first, names := w.until("the first tree", sizeOf("web", 1))
	if !slices.Equal(names, []string{"api", "web"}) {
		t.Errorf("first: %v", names)
	}

	put(t, dir, "web/marathon-norcal.yaml", instances(2))
	tree, names := w.until("a write", sizeOf("web", 2))
	if !slices.Equal(names, []string{"web"}) || tree.Services["api"] != first.Services["api"] {
		t.Errorf("a write: %v, and api is %p, was %p", names, tree.Services["api"], first.Services["api"])
	}

	put(t, dir, "web/new", instances(3))
	if err := os.Rename(filepath.Join(dir, "web/new"), filepath.Join(dir, "web/marathon-norcal.yaml")); err != nil {
		t.Fatal(err)
	}
	w.until("a rename over a file", sizeOf("web", 3))

	put(t, dir, "new/marathon-norcal.yaml", instances(4))
	_, names = w.until("a new service", sizeOf("new", 4))
	if !slices.Equal(names, []string{"new"}) {
		t.Errorf("a new service: %v", names)
	}
	put(t, dir, "new/marathon-norcal.yaml", instances(5))
	w.until("a write to a new service", sizeOf("new", 5))

	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	_, names = w.until("a service that goes", func(t *Tree) bool { return t.Services["new"] == nil })
	if !slices.Equal(names, []string{"new"}) {
		t.Errorf("a service that goes: %v", names)
	}

	// What is wrong between two services changes both, and not the third.
	put(t, dir, "web/smartstack.yaml", "main: {proxy_port: 20001}\n")
	before, _ := w.until("a namespace", func(t *Tree) bool { return len(t.Services["web"].Namespaces.Valid) == 1 })
	put(t, dir, "other/smartstack.yaml", "main: {proxy_port: 20001}\n")
	tree, names = w.until("a clash", func(t *Tree) bool { return len(t.Services["web"].Namespaces.Invalid) == 1 })
	if !slices.Equal(names, []string{"other", "web"}) || tree.Services["api"] != first.Services["api"] {
		t.Errorf("a clash: %v", names)
	}
	if len(before.Services["web"].Namespaces.Valid) != 1 {
		t.Error("a tree that was handed out has changed")
	}
	put(t, dir, "other/smartstack.yaml", "main: {proxy_port: 20002}\n")
	w.until("the clash is over", func(t *Tree) bool { return len(t.Services["web"].Namespaces.Valid) == 1 && len(t.Problems) == 0 })
}

// A file that says the same again, however it is written, changes nothing.
func TestWatcherIgnoresWhatIsTheSame(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web/marathon-norcal.yaml", instances(1))
	put(t, dir, "api/marathon-norcal.yaml", instances(1))
	w := watch(t, dir, time.Hour)
	first, _ := w.until("the first tree", sizeOf("web", 1))
	put(t, dir, "web/marathon-norcal.yaml", "# said otherwise\n"+instances(1))
	put(t, dir, "api/marathon-norcal.yaml", instances(2))
	tree, names := w.until("a change", sizeOf("api", 2))
	if !slices.Equal(names, []string{"api"}) || tree.Services["web"] != first.Services["web"] {
		t.Errorf("changed: %v", names)
	}
}

func TestWatcherOfALink(t *testing.T) {
	root := t.TempDir()
	put(t, root, "v1/web/marathon-norcal.yaml", instances(1))
	put(t, root, "v2/web/marathon-norcal.yaml", instances(2))
	link := filepath.Join(root, "current")
	if err := os.Symlink("v1", link); err != nil {
		t.Fatal(err)
	}
	w := watch(t, link, time.Hour)
	w.until("the first tree", sizeOf("web", 1))
	swap := func(to string) {
		t.Helper()
		if err := os.Symlink(to, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	swap("v2")
	w.until("the other directory", sizeOf("web", 2))
	put(t, root, "v2/web/marathon-norcal.yaml", instances(3))
	w.until("a write behind the link", sizeOf("web", 3))
}

// The directory goes and comes back: until then the last tree stands.
func TestWatcherWithoutItsDirectory(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "soa")
	w := watch(t, dir, 20*time.Millisecond)
	if err := <-w.errs; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	put(t, dir, "web/marathon-norcal.yaml", instances(1))
	put(t, dir, "api/marathon-norcal.yaml", instances(1))
	w.until("the directory", func(tree *Tree) bool { return sizeOf("web", 1)(tree) && sizeOf("api", 1)(tree) })

	drain := func() {
		for len(w.errs) > 0 {
			<-w.errs
		}
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	drain()
	if err := <-w.errs; err == nil {
		t.Error("no error")
	}
	if err := os.Mkdir(dir, 0o755); err != nil { // an empty mount point, say
		t.Fatal(err)
	}
	for !strings.Contains((<-w.errs).Error(), "is empty and had 2 services") {
	}
	if len(w.trees) > 0 {
		t.Error("an empty directory made a tree")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "web/marathon-norcal.yaml", instances(7))
	w.until("the directory is back", sizeOf("web", 7))
}

func TestWatcherStopsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := Watcher{Dir: t.TempDir()}
	if err := w.Run(ctx, func(*Tree, []string) {}, func(error) {}); err != nil {
		t.Error(err)
	}
}

// BenchmarkReload1000x3 is a change of one file among 8,000.
func BenchmarkReload1000x3(b *testing.B) {
	dir := generate(b, 1000, "norcal", "nova", "sfo")
	r := reload{dir: dir}
	last, _, err := r.load(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	r.last = last
	n := 0
	for b.Loop() {
		n++
		put(b, dir, "service-0500/marathon-norcal.yaml", instances(n))
		tree, names, err := r.load(b.Context())
		if err != nil || len(names) != 1 {
			b.Fatal(names, err)
		}
		r.last = tree
	}
}
