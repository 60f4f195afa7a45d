package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gopaasta/paasta/paasta/sysconfig"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	time.Local = time.FixedZone("", 3600) // what is local must not depend on the machine
	testscript.Main(m, map[string]func(){"paasta": func() {
		env := &Env{
			In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Now: time.Now,
			Config: sync.OnceValues(sysconfig.Load), Version: "test",
		}
		os.Exit(Main(context.Background(), env, os.Args[1:]))
	}})
}

// TestScripts runs whole sessions against an API whose answers are files of
// the script: GET /v1/services/web/status is answers/v1/services/web/status.json,
// or .ndjson; without such a file it is a 404. Each POST adds a line to posts.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			api := httptest.NewServer(fileAPI{env.WorkDir})
			env.Defer(api.Close)
			config := fmt.Sprintf("cluster: test\nclusters: [test, prod]\nsoa_dir: %s\nzookeeper: 127.0.0.1:1\napi_endpoints:\n  test: %s\n",
				filepath.Join(env.WorkDir, "soa"), api.URL)
			dir := filepath.Join(env.WorkDir, "etc")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			env.Setenv("PAASTA_SYSTEM_CONFIG_DIR", dir)
			env.Setenv("API", api.URL)
			return os.WriteFile(filepath.Join(dir, "paasta.yaml"), []byte(config), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE ARGS… runs paasta and wants this exit code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("paasta", args[1:]...)
				got := "0"
				if err != nil {
					got = strings.TrimPrefix(err.Error(), "exit status ")
				}
				if got != args[0] {
					ts.Fatalf("exit code %s, want %s", got, args[0])
				}
			},
			// json ARGS… runs paasta with --json and wants nothing but JSON on
			// stdout, whatever the exit code.
			"json": func(ts *testscript.TestScript, _ bool, args []string) {
				_ = ts.Exec("paasta", append(args, "--json")...)
				values := 0
				for d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout"))); ; values++ {
					var v any
					if err := d.Decode(&v); errors.Is(err, io.EOF) && values > 0 {
						return
					} else if err != nil {
						ts.Fatalf("value %d on stdout: %v", values, err)
					}
				}
			},
		},
	})
}

// A fileAPI answers with files.
type fileAPI struct{ dir string }

func (a fileAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		f, err := os.OpenFile(filepath.Join(a.dir, "posts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintln(f, r.URL.RequestURI())
			_ = f.Close()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintln(w, "{}")
		return
	}
	for _, ext := range []string{".json", ".ndjson"} {
		if text, err := os.ReadFile(filepath.Join(a.dir, "answers", filepath.FromSlash(r.URL.Path)) + ext); err == nil {
			_, _ = w.Write(text)
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, `{"message": "no such path: %s", "hint": "write the answer"}`, r.URL.Path)
}

// golden compares with a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nIf it is right, go test ./cli -update writes it.", file, diff)
	}
}

var testNow = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// testEnv is an environment whose output is in the returned buffers.
func testEnv() (env *Env, out, errOut *bytes.Buffer) {
	out, errOut = &bytes.Buffer{}, &bytes.Buffer{}
	env = &Env{
		In: strings.NewReader(""), Out: out, Err: errOut,
		Now:     func() time.Time { return testNow },
		Config:  func() (sysconfig.Config, error) { return sysconfig.Config{Cluster: "test"}, nil },
		Version: "test",
	}
	return env, out, errOut
}

// onTerminal makes env one with a terminal.
func onTerminal(env *Env) *Env {
	env.TTY, env.ErrTTY, env.Color, env.Width = true, true, true, 100
	return env
}
