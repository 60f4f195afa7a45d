package soaconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// Whatever bytes a team commits: no panic, a quick answer, and every problem
// with its file and a text.
func FuzzService(f *testing.F) {
	archives, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add(filepath.Base(file.Name), file.Data)
		}
	}
	f.Add("marathon-norcal.yaml", []byte("a: &a {<<: [*a, *a]}\nb: {<<: *a, ? *a : 1}"))
	f.Add("smartstack.yaml", []byte("main: {proxy_port: 1e3, chaos: {region: {a: {delay: 999999999d}}}}"))
	f.Add("deploy.yaml", []byte("pipeline: [{step: !!str 3}, {step: 0x1F}, {step: 1_0}]"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		name = filepath.Base(name)
		if len(name) > 100 || strings.ContainsAny(name, "\x00/") || name == "." || name == ".." {
			return
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "web"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "web", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		tree, err := Load(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		for _, p := range tree.Problems {
			if p.File == "" || p.Text == "" || p.Line < 0 || (p.Line > 0) != (p.Column > 0) {
				t.Errorf("a problem without place or text: %+v", p)
			}
			if strings.ContainsAny(p.String(), "\n\r\x1b") {
				t.Errorf("a problem of more than a line: %q", p)
			}
		}
		// Nothing that has a name is neither sound nor broken: it would be taken for gone.
		for cluster, all := range tree.Services["web"].Instances {
			d := readDocument(filepath.Join(dir, "web", marathonPrefix+cluster+".yaml"))
			if len(all.Unreadable) > 0 || d.root == nil {
				continue
			}
			for _, f := range d.root.fields {
				if _, found, _ := all.Find(f.key.text); !found && !strings.HasPrefix(f.key.text, "_") {
					t.Errorf("%q is neither sound nor broken", f.key.text)
				}
			}
		}
		// What is sound can stand in a config of HAProxy.
		for _, ns := range tree.Services["web"].Namespaces.Valid {
			for _, s := range append([]string{ns.Name, ns.HealthcheckURI, ns.HealthcheckBodyExpect, ns.ProxiedThrough, ns.MetricsURI}, ns.EndpointTemplates...) {
				if strings.ContainsAny(s, "\n\r\x00\"'\\#$") {
					t.Errorf("%q got through", s)
				}
			}
		}
	})
}
