package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/sysconfig"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"sound/service.yaml":           "description: sound\n",
		"sound/marathon-norcal.yaml":   "main: {instances: 3}\n",
		"sound/deploy.yaml":            "pipeline: [{step: norcal.main}]\n",
		"old/smartstack.yaml":          "main:\n  proxy_port: 20001\n  allredisp: true\n  plugins: {logging: {enabled: true}}\n",
		"wrong/marathon-norcal.yaml":   "main: {memm: 5}\n",
		"broken/service.yaml":          "description: broken\n",
		"broken/marathon-norcal.yaml":  "main:\n  instances: three\n  bounce_method: crosover\n",
		"broken/marathon-norcla.yaml":  "main: {}\n",
		"elsewhere/nothing/to/see.txt": "here",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const broken = `DIRmarathon-norcal.yaml:2:3: broken: main.instances: is the text "three", want an integer
DIRmarathon-norcal.yaml:3:3: broken: main.bounce_method: unknown value "crosover" (known: brutal, crossover, downthenup, upthendown; did you mean "crossover"?)
DIRmarathon-norcla.yaml: wrong: is for "norcla", which is none of the known clusters (norcal) (did you mean "norcal"?)
`
	all := strings.ReplaceAll(broken, "DIR", "broken/") + "wrong/marathon-norcal.yaml:1:8: wrong: main.memm: unknown key (did you mean \"mem\"?)\n"
	tests := map[string]struct {
		here string // below root
		args string
		exit int
		out  string
		err  string // part of it
	}{
		"a sound service":                {"", "-s sound", exitOK, "", "no problems"},
		"a broken one":                   {"", "-s broken", exitFailed, strings.ReplaceAll(broken, "DIR", "broken/"), "3 problems in"},
		"one with keys that do nothing":  {"", "-s old", exitOK, "", "note: old/smartstack.yaml:3:3: main.allredisp: has no meaning any more: every retry"},
		"and its other one":              {"old", "", exitOK, "", "note: smartstack.yaml:4:3: main.plugins: has no meaning any more"},
		"one that is only wrong":         {"", "-s wrong", exitFailed, "wrong/marathon-norcal.yaml:1:8: wrong: main.memm: unknown key (did you mean \"mem\"?)\n", "none of them stops a deployment"},
		"all, by default":                {"", "", exitFailed, all, "4 problems in"},
		"all":                            {"", "--all", exitFailed, all, "4 problems in"},
		"in the service's directory":     {"broken", "", exitFailed, strings.ReplaceAll(broken, "DIR", ""), "3 problems in"},
		"in a sound service's directory": {"sound", "", exitOK, "", "1 service in"},
		"the system's soa-configs":       {"elsewhere", "-s sound", exitOK, "", "no problems"},
		"a directory":                    {"elsewhere", "-s sound -y " + root, exitOK, "", "no problems"},
		"a directory by its other flag":  {"elsewhere", "-s sound -d " + root, exitOK, "", "no problems"},
		"a directory that is a service":  {"elsewhere", "-y " + root + "/sound", exitOK, "", "1 service in"},
		"no such service":                {"", "-s soud -y " + root, exitFailed, "", `no service "soud"`},
		"no such directory":              {"", "--all -y " + root + "/none", exitFailed, "", "no such file or directory"},
		"nothing to check":               {"elsewhere/nothing", "", exitUsage, "", "--soa-dir"},
		"a service and all":              {"", "-s sound --all", exitUsage, "", "none of the others can be"},
		"arguments":                      {"", "sound", exitUsage, "", "sound"},
		"an unknown schema":              {"", "--schema marathn", exitUsage, "", `did you mean "marathon"?`},
		"a service that is a path":       {"", "-s ../x", exitUsage, "", "no name of a service"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exit, out, err := runValidate(t, root, tc.here, tc.args)
			if exit != tc.exit || out != tc.out || !strings.Contains(err, tc.err) {
				t.Errorf("paasta validate %s: exit %d, want %d\n--- out\n%s--- want\n%s--- err (want %q)\n%s", tc.args, exit, tc.exit, out, tc.out, tc.err, err)
			}
		})
	}
	t.Run("as JSON", func(t *testing.T) {
		exit, out, _ := runValidate(t, root, "", "-s broken --json")
		var answer struct {
			Valid    bool
			Services int
			Problems []struct {
				Class, File, Key, Text string
				Line, Column           int
			}
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if exit != exitFailed || answer.Valid || answer.Services != 1 || len(answer.Problems) != 3 || answer.Problems[0].Class != "broken" || answer.Problems[2].Class != "wrong" || answer.Problems[0].Line != 2 || answer.Problems[0].Key != "main.instances" {
			t.Errorf("exit %d, %+v", exit, answer)
		}
		exit, out, _ = runValidate(t, root, "", "-s sound --json")
		if want := "{\n  \"valid\": true,\n  \"services\": 1,\n  \"problems\": []\n}\n"; exit != exitOK || out != want {
			t.Errorf("exit %d, %s", exit, out)
		}
	})
	t.Run("the system config", func(t *testing.T) {
		exit, out, err := runValidate(t, root, "", "--system --json")
		if exit != exitOK || !strings.Contains(out, `"valid": true`) || !strings.Contains(out, `"notes": [`) {
			t.Errorf("exit %d, %s%s", exit, out, err)
		}
	})
	t.Run("a schema", func(t *testing.T) {
		exit, out, _ := runValidate(t, root, "", "--schema smartstack")
		if exit != exitOK || !json.Valid([]byte(out)) || !strings.Contains(out, "proxy_port") {
			t.Errorf("exit %d, %.100s", exit, out)
		}
	})
}

func runValidate(t *testing.T, root, here, args string) (exit int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &Env{
		In: strings.NewReader(""), Out: &stdout, Err: &stderr, Now: time.Now,
		Getwd: func() (string, error) { return filepath.Join(root, here), nil },
		Config: func() (sysconfig.Config, error) {
			return sysconfig.Config{SoaDir: root, Cluster: "norcal", Clusters: []string{"norcal"}}, nil
		},
	}
	exit = Main(context.Background(), env, append([]string{"validate"}, strings.Fields(args)...))
	return exit, stdout.String(), stderr.String()
}
