package haproxy

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What a killed agent had begun goes, and nothing else does.
func TestTidy(t *testing.T) {
	t.Parallel()
	p := Process{Dir: t.TempDir()}
	stay := []string{".hidden", "cache.json", "drain", "haproxy.cfg", "haproxy-1.out", "server-state"}
	for _, name := range append([]string{".check-123.cfg", ".haproxy-45.out", ".haproxy.cfg-67", ".cache.json-8", ".server-state-9"}, stay...) {
		if err := os.WriteFile(filepath.Join(p.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Tidy(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(stay)
	if !slices.Equal(left, stay) {
		t.Errorf("left: %q, want %q", left, stay)
	}
}
