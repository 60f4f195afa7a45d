package lastgood_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/smartstack/internal/lastgood"
)

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "good.json")
	file := &lastgood.File[map[string]int]{Path: path}
	read := func(want map[string]int) {
		t.Helper()
		got, err := (&lastgood.File[map[string]int]{Path: path}).Read()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	read(nil)
	for _, value := range []map[string]int{{"a": 1}, {"b": 2}} {
		if err := file.Write(value); err != nil {
			t.Fatal(err)
		}
		read(value)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Write(map[string]int{"b": 2}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same is written again: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"b": "tw`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := file.Read(); err == nil || got != nil {
		t.Errorf("a broken file says %v, %v", got, err)
	}
	var none lastgood.File[int]
	if n, err := none.Read(); n != 0 || err != nil || none.Write(1) != nil {
		t.Errorf("no file says %v, %v", n, err)
	}
}
