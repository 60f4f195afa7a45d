package soaconfig

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files, schemas and the reference")

// golden compares got with a file, or rewrites it under -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is stale; run go test -update (-want +got):\n%s", path, diff)
	}
}

func TestSchemasAreFresh(t *testing.T) {
	for _, name := range Schemas() {
		got, err := generateSchema(name)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("schema", name+".schema.json"), got)
	}
}
