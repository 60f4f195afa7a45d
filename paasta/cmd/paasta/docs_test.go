package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

const root = "../../.."

// A page is one Markdown file.
type page struct {
	name   string // relative to the repository
	text   string
	blocks []block
	prose  string // what is in no block
}

// A block is what stands between two lines of ```.
type block struct {
	language, text string
	line           int // of its first line
}

// pages reads every page that is in the repository.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata" || name == "bin") {
			return fs.SkipDir
		}
		if filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, parsePage(name, string(text)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found %d pages only: is %s the repository?", len(all), root)
	}
	return all
}

func parsePage(name, text string) page {
	p := page{name: name, text: text}
	var prose strings.Builder
	var open *block
	number := 0
	for line := range strings.Lines(text) {
		number++
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			open = &block{language: strings.TrimPrefix(strings.TrimSpace(line), "```"), line: number + 1}
		case fence:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += line
		default:
			prose.WriteString(line)
		}
	}
	p.prose = prose.String()
	return p
}

// TestDocsLinks follows every relative link, with its anchor.
func TestDocsLinks(t *testing.T) {
	anchors := map[string]map[string]bool{}
	all := pages(t)
	for _, p := range all {
		anchors[p.name] = map[string]bool{}
		for line := range strings.Lines(p.prose) {
			if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
				anchors[p.name][anchor(title)] = true
			}
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, p := range all {
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(p.prose, ""), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := p.name
			if target != "" {
				file = filepath.Join(filepath.Dir(p.name), target)
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s: (%s): %v", p.name, m[1], err)
			}
			if known, page := anchors[file]; fragment != "" && page && !known[fragment] {
				t.Errorf("%s: (%s): %s has no such heading", p.name, m[1], file)
			}
		}
	}
}

// anchor is the fragment by which a heading is reached.
func anchor(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(title)) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-', r == '_', r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// TestDocsIndex wants every page below docs/ to be reachable from the index.
func TestDocsIndex(t *testing.T) {
	var index string
	all := pages(t)
	for _, p := range all {
		if p.name == "docs/index.md" || p.name == "docs/operations/index.md" {
			index += strings.ReplaceAll(p.text, "](", "]("+filepath.Dir(p.name)+"/")
		}
	}
	for _, p := range all {
		if strings.HasPrefix(p.name, "docs/") && p.name != "docs/index.md" && !strings.Contains(index, "]("+p.name+")") {
			t.Errorf("%s is not linked from docs/index.md", p.name)
		}
	}
}

// TestDocsYAML validates the YAML in docs. The first line of a block says which
// file it is: "# soa-configs/SERVICE/FILE.yaml", "# /etc/paasta/FILE.yaml" or
// "# /etc/paasta/services.d/FILE.yaml". The blocks of one page belong together.
func TestDocsYAML(t *testing.T) {
	for _, p := range pages(t) {
		dir := t.TempDir()
		var soa, system bool
		for _, b := range p.blocks {
			if b.language != "yaml" {
				continue
			}
			first, _, _ := strings.Cut(b.text, "\n")
			file := strings.TrimPrefix(first, "# ")
			rest, isSoa := strings.CutPrefix(file, "soa-configs/")
			_, isSystem := strings.CutPrefix(file, "/etc/paasta/")
			if !isSoa && !isSystem {
				t.Errorf("%s:%d: the first line of a YAML block names its file, this is %q", p.name, b.line, first)
				continue
			}
			soa = soa || isSoa
			path := filepath.Join(dir, "etc", filepath.FromSlash(file))
			if isSoa {
				path = filepath.Join(dir, "soa", filepath.FromSlash(rest))
			}
			local := strings.HasPrefix(file, "/etc/paasta/services.d/")
			system = system || isSystem && !local
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(b.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if local {
				if _, problems := soaconfig.ReadLocalService(path); len(problems) > 0 {
					t.Errorf("%s:%d: %v", p.name, b.line, problems)
				}
			}
		}
		if soa {
			tree, err := soaconfig.Load(t.Context(), filepath.Join(dir, "soa"), soaconfig.Options{})
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
			} else if len(tree.Problems) > 0 {
				t.Errorf("%s: %v", p.name, tree.Problems)
			}
		}
		if system {
			if _, err := sysconfig.LoadDir(filepath.Join(dir, "etc", "etc", "paasta")); err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
		}
	}
}

// TestDocsNamespaces wants each key of smartstack.yaml, and nothing else, in
// the table of what it does.
func TestDocsNamespaces(t *testing.T) {
	schema, err := soaconfig.Schema("smartstack")
	if err != nil {
		t.Fatal(err)
	}
	var shape struct {
		Definitions struct {
			Entry struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(schema, &shape); err != nil {
		t.Fatal(err)
	}
	keys := shape.Definitions.Entry.Properties
	if keys["proxy_port"] == nil {
		t.Fatalf("the schema of smartstack.yaml has another form now: %s", schema)
	}
	text := read(t, "docs/reference/smartstack-namespaces.md")
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)`")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		if keys[m[1]] == nil {
			t.Errorf("%s is explained, and is no key", m[1])
		}
		delete(keys, m[1])
	}
	for key := range keys {
		t.Errorf("%s is a key, and is not explained", key)
	}
}

// TestDocsZnodes wants each path that is used in the reference.
func TestDocsZnodes(t *testing.T) {
	text := read(t, "docs/reference/znodes.md")
	const cluster, service = "<cluster>", "<service>"
	for _, path := range []string{
		"/smartstack/global/<registration>", paasta.AgentsPath + "/<host>", paasta.LeaderPath(cluster), paasta.DeploymentsPath(cluster, service),
		paasta.KickPath(cluster, service), paasta.DeployLogPath(cluster, service), paasta.MaintenancePath(cluster) + "/<host>",
		paasta.DesiredSizePath(cluster, paasta.InstanceID{Service: service, Instance: "<instance>"}), paasta.ConfirmPath(cluster, service),
	} {
		if !strings.Contains(text, "`"+path) {
			t.Errorf("%s is not explained", path)
		}
	}
}

// TestDocsMetrics wants every metric that operators are told to watch to be
// there.
func TestDocsMetrics(t *testing.T) {
	var code strings.Builder
	for _, tree := range []string{"paasta", "deployd", "smartstack", "docker"} {
		err := filepath.WalkDir(filepath.Join(root, tree), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	name := regexp.MustCompile(`\b(?:paasta|smartstack)_[a-z_]+\b`)
	for _, p := range pages(t) {
		if !strings.HasPrefix(p.name, "docs/operations/") {
			continue
		}
		for _, b := range append(span.FindAllStringSubmatch(p.prose, -1), blockTexts(p)...) {
			for _, metric := range name.FindAllString(b[1], -1) {
				base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(metric, "_bucket"), "_count"), "_sum")
				short := strings.TrimPrefix(base, "paasta_deployd_") // deployd puts its names together
				if !strings.Contains(code.String(), `"`+base+`"`) && (short == base || !strings.Contains(code.String(), `"`+short+`"`)) {
					t.Errorf("%s: there is no metric %s", p.name, metric)
				}
			}
		}
	}
}

func blockTexts(p page) [][]string {
	var all [][]string
	for _, b := range p.blocks {
		if b.language == "promql" {
			all = append(all, []string{b.text, b.text})
		}
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
