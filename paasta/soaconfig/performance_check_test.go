package soaconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadPerformanceCheck(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text  string // "-": no file
		want  PerformanceCheck
		found bool
		err   string
	}{
		"none":        {"-", PerformanceCheck{}, false, ""},
		"a sound one": {"endpoint: http://perf/\nrate: 5\ntags: [a, b]\n", PerformanceCheck{"http://perf/", map[string]any{"rate": 5, "tags": []any{"a", "b"}}}, true, ""},
		"no endpoint": {"rate: 5\n", PerformanceCheck{}, true, "performance-check.yaml:1:1: endpoint: is missing"},
		"a list":      {"- 1\n", PerformanceCheck{}, true, "want an object"},
		"no YAML":     {"a: [\n", PerformanceCheck{}, true, "is no YAML"},
	} {
		dir := t.TempDir()
		if tt.text != "-" {
			if err := os.WriteFile(filepath.Join(dir, "performance-check.yaml"), []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, found, err := ReadPerformanceCheck(dir)
		if found != tt.found || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %t, %v; want %t, %q", name, found, err, tt.found, tt.err)
		}
		if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
