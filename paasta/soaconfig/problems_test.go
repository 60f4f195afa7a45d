package soaconfig

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// unpack writes the files of a txtar archive to a new directory.
func unpack(t testing.TB, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range archive.Files {
		put(t, dir, f.Name, string(f.Data))
	}
	return dir
}

// put writes one file below dir.
func put(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The golden files hold every problem of the archives beside them, and which
// entries are sound all the same.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no archives", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := unpack(t, archive)
			tree, err := Load(t.Context(), dir, Options{Clusters: []string{"norcal", "nova"}})
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			all := slices.Clone(tree.Problems)
			for _, s := range tree.Services {
				all = append(all, s.Notes...)
			}
			for _, p := range all.sorted() {
				fmt.Fprintf(&b, "%-6s %s\n", p.Class, strings.ReplaceAll(p.String(), dir+"/", ""))
			}
			fmt.Fprintln(&b)
			for _, name := range slices.Sorted(maps.Keys(tree.Services)) {
				s := tree.Services[name]
				sound := func(kind string, names []string) {
					if slices.Sort(names); len(names) > 0 {
						fmt.Fprintf(&b, "sound: %s %s: %s\n", name, kind, strings.Join(names, ", "))
					}
				}
				for _, c := range s.Clusters {
					sound(c, slices.Collect(maps.Keys(s.Instances[c].Valid)))
				}
				sound("adhoc", slices.Collect(maps.Keys(s.Adhoc["norcal"].Valid)))
				sound("namespaces", slices.Collect(maps.Keys(s.Namespaces.Valid)))
				sound("test dependencies", slices.Collect(maps.Keys(s.TestDeps.Valid)))
			}
			golden(t, strings.TrimSuffix(file, ".txtar")+".golden", b.Bytes())
		})
	}
}
