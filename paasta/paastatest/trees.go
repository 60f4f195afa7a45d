package paastatest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// BadFiles are what a YAML file of soa-configs may hold by mistake, by what the
// mistake is: some are no YAML, some no mapping, some a mapping of the wrong
// things. None may stop a daemon, or harm a service that it is not about.
func BadFiles() map[string]string {
	return map[string]string{
		"empty":             "",
		"a newline":         "\n",
		"a comment":         "# nothing yet\n",
		"a document marker": "---\n",
		"two documents":     "main: {}\n---\nmain: {}\n",
		"an empty list":     "[]\n",
		"a list":            "- main\n- other\n",
		"null":              "null\n",
		"a tilde":           "~\n",
		"a number":          "7\n",
		"a truth":           "true\n",
		"a text":            "main\n",
		"an empty mapping":  "{}\n",
		"an open quote":     "main: {cmd: \"\n",
		"an open bracket":   "main: [\n",
		"an open brace":     "main: {\n",
		"a tab":             "main:\n\tcmd: x\n",
		"a conflict of git": "<<<<<<< HEAD\nmain: {}\n=======\nmain: {mem: 1}\n>>>>>>> other\n",
		"half a file":       "main:\n  proxy_port: 2",
		"bytes":             "\x00\x01\xff\xfe",
		"UTF-16":            "\xff\xfem\x00a\x00i\x00n\x00:\x00",
		"a key twice":       "main: {}\nmain: {}\n",
		"a null entry":      "main:\n",
		"a list as entry":   "main: []\n",
		"a text as entry":   "main: yes please\n",
		"a number as entry": "main: 7\n",
		"a null key":        "? \n: {}\n",
		"a list as key":     "? [a, b]\n: {}\n",
		"an empty key":      "\"\": {}\n",
		"a dot as key":      "a.b: {}\n",
		"an unknown alias":  "main: *none\n",
		"an alias of self":  "main: &a {x: *a}\n",
		"a merge of text":   "main: {<<: text}\n",
		"a merge of null":   "main: {<<: null}\n",
		"a tag":             "main: !!python/object:os.system {}\n",
		"unknown keys":      "main: {no_such_key: 1, other: {a: [b]}}\n",
		"reserved keys":     "main: {proxy_port: 20999, tls: true, allowed_callers: [web]}\n",
		"deep":              "main: {a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}\n",
		"wide":              strings.Repeat("- x\n", 5000),
		"all null":          "main: {proxy_port: null, mode: null, cmd: null, instances: null, pipeline: null, registrations: null, advertise: null}\n",
		"all lists":         "main: {proxy_port: [], mode: [], cmd: [], instances: [], registrations: {}, advertise: {}, healthcheck_uri: []}\n",
		"all mappings":      "main: {proxy_port: {}, mode: {}, cmd: {}, instances: {}, registrations: {}, advertise: {}, chaos: {}, cache: {}}\n",
		"wrong words":       "main: {proxy_port: 20001, mode: htpp, balance: magic, bounce_method: none, healthcheck_mode: x}\n",
		"wrong numbers":     "main: {proxy_port: -7, instances: -1, cpus: .nan, mem: .inf, timeout_server_ms: 1e400}\n",
		"large numbers":     "main: {proxy_port: 99999999999999999999, instances: 1e18, mem: 9223372036854775808}\n",
		"nulls inside":      "main: {endpoint_timeouts: {a: null}, chaos: {region: {x: null}}, extra_headers: {a: null}, advertise: [null], env: {A: null}, constraints: [null]}\n",
	}
}

// A BadTree breaks a tree of soa-configs in dir in one way.
type BadTree struct {
	Name  string
	Break func(dir string) error
}

// ServiceFiles are the files of a service, for a cluster.
func ServiceFiles(cluster string) []string {
	return []string{"smartstack.yaml", "marathon-" + cluster + ".yaml", "service.yaml", "deploy.yaml", "monitoring.yaml", "dependencies.yaml", "test-dependencies.yaml"}
}

// BadTrees are ways to break service of a tree: each of BadFiles in the file that
// it is told of, and what can be wrong with files as such. port is one that
// another service of the tree has.
func BadTrees(service, file string, port int) []BadTree {
	path := func(dir string, names ...string) string {
		return filepath.Join(append([]string{dir, service}, names...)...)
	}
	trees := []BadTree{
		{"the file is gone", func(dir string) error { return os.Remove(path(dir, file)) }},
		{"the file is a directory", func(dir string) error {
			if err := os.Remove(path(dir, file)); err != nil {
				return err
			}
			return os.Mkdir(path(dir, file), 0o755)
		}},
		{"the file is a link to itself", func(dir string) error { return relink(path(dir, file), file) }},
		{"the file is a link to nothing", func(dir string) error { return relink(path(dir, file), "nowhere") }},
		{"the file is a link to a device", func(dir string) error { return relink(path(dir, file), "/dev/zero") }},
		{"the file is a pipe", func(dir string) error {
			if err := os.Remove(path(dir, file)); err != nil {
				return err
			}
			return syscall.Mkfifo(path(dir, file), 0o644)
		}},
		{"the file is too long", func(dir string) error { return os.Truncate(path(dir, file), 100<<20) }},
		{"the service is gone", func(dir string) error { return os.RemoveAll(path(dir)) }},
		{"the service is empty", func(dir string) error {
			if err := os.RemoveAll(path(dir)); err != nil {
				return err
			}
			return os.Mkdir(path(dir), 0o755)
		}},
		{"the service is a file", func(dir string) error {
			if err := os.RemoveAll(path(dir)); err != nil {
				return err
			}
			return os.WriteFile(path(dir), []byte("web\n"), 0o644)
		}},
		{"the service is a link to itself", func(dir string) error {
			if err := os.RemoveAll(path(dir)); err != nil {
				return err
			}
			return os.Symlink(service, path(dir))
		}},
		{"another service has its port", func(dir string) error {
			other := filepath.Join(dir, "another")
			if err := os.MkdirAll(other, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(other, "smartstack.yaml"), fmt.Appendf(nil, "main: {proxy_port: %d}\n", port), 0o644)
		}},
	}
	for name, text := range BadFiles() {
		trees = append(trees, BadTree{"the file is " + name, func(dir string) error {
			return os.WriteFile(path(dir, file), []byte(text), 0o644)
		}})
	}
	return trees
}

func relink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// Mutate breaks the files of a service at random: what is there is cut, doubled
// or mixed with bad files. The same numbers break them in the same way.
func Mutate(t testing.TB, random *rand.Rand, dir, service, cluster string) {
	t.Helper()
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(BadFiles())) {
		bad = append(bad, BadFiles()[name])
	}
	for _, file := range ServiceFiles(cluster) {
		path := filepath.Join(dir, service, file)
		text, _ := os.ReadFile(path) // one that is not there is empty
		switch random.IntN(6) {
		case 0:
			text = []byte(bad[random.IntN(len(bad))])
		case 1:
			text = text[:random.IntN(len(text)+1)]
		case 2:
			text = append(text, bad[random.IntN(len(bad))]...)
		case 3:
			if len(text) > 0 {
				text[random.IntN(len(text))] = "{}[]:,'\"\n\t -&*!|>%@`#\x00"[random.IntN(22)]
			}
		case 4:
			lines := strings.SplitAfter(string(text), "\n")
			at := random.IntN(len(lines))
			text = []byte(strings.Join(append(lines[:at:at], lines[min(at+1, len(lines)):]...), ""))
		default:
			continue
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// CopyTree makes dir a copy of the files of another directory.
func CopyTree(t testing.TB, dir string, from string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
