package marathon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
)

// A mesos is a Marathon, two Mesos masters and an agent with the sandbox of
// one task, as their documentation has them.
type mesos struct {
	dir   string // the sandbox
	path  string // at which the agent knows it
	old   bool   // before Mesos 1.4 no other path but that on the disk
	known bool   // the master knows the task

	mu   sync.Mutex
	runs bool
}

const mesosTask = "web.main.git1.config1.5a1c"

func startMesos(t *testing.T, m *mesos) *marathon.Client {
	t.Helper()
	m.dir, m.runs = t.TempDir(), true
	const slave, framework = "4c9e-S0", "96d7-0000"
	directory := "/var/lib/mesos/slaves/" + slave + "/frameworks/" + framework + "/executors/" + mesosTask + "/runs/17b0"
	m.path = "/frameworks/" + framework + "/executors/" + mesosTask + "/runs/latest"
	if m.old {
		m.path = directory
	}
	start := func(h http.HandlerFunc) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "ops" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h(w, r)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	agent := start(func(w http.ResponseWriter, r *http.Request) {
		in, name := filepath.Split(r.URL.Query().Get("path"))
		switch r.URL.Path {
		case "/state":
			answer(w, map[string]any{"frameworks": []any{map[string]any{
				"id": framework, "completed_executors": []any{map[string]any{"id": mesosTask, "directory": directory}},
			}}})
		case "/files/browse":
			if in+name != m.path {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			entries, _ := os.ReadDir(m.dir)
			files := []any{}
			for _, e := range entries {
				info, _ := e.Info()
				files = append(files, map[string]any{"path": m.path + "/" + e.Name(), "size": info.Size(), "mtime": float64(info.ModTime().Unix()), "mode": "-rw-r--r--", "nlink": 1, "uid": "root", "gid": "root"})
			}
			answer(w, files)
		case "/files/read":
			text, err := os.ReadFile(filepath.Join(m.dir, name))
			if err != nil || strings.TrimSuffix(in, "/") != m.path {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
			length, _ := strconv.Atoi(r.URL.Query().Get("length"))
			piece := text[min(offset, len(text)):min(offset+min(length, 64<<10), len(text))]
			// Its JSON has the bytes as they are, but for control characters.
			quoted := bytes.NewBufferString(`"`)
			for _, b := range piece {
				switch {
				case b < 0x20, b == 0x7f:
					fmt.Fprintf(quoted, `\u%04x`, b)
				case b == '"', b == '\\', b == '/':
					quoted.Write([]byte{'\\', b})
				default:
					quoted.WriteByte(b)
				}
			}
			fmt.Fprintf(w, `{"data":%s","offset":%d}`, quoted, offset)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	leader := start(func(w http.ResponseWriter, _ *http.Request) {
		f := map[string]any{"id": framework, "name": "marathon"}
		if m.known {
			f["completed_tasks"] = []any{map[string]any{
				"id": mesosTask, "executor_id": "", "slave_id": slave, "state": "TASK_FAILED",
				"labels":   []any{map[string]any{"key": "paasta_service", "value": "web"}, map[string]any{"key": "paasta_instance", "value": "main"}, map[string]any{"key": "paasta_git_sha", "value": "abc"}},
				"statuses": []any{map[string]any{"state": "TASK_RUNNING", "timestamp": 1700000000.25}, map[string]any{"state": "TASK_FAILED", "timestamp": 1700000009.5}},
			}}
		}
		answer(w, map[string]any{
			"slaves":     []any{map[string]any{"id": slave, "pid": "slave(1)@" + agent, "hostname": "agent1"}},
			"frameworks": []any{f},
		})
	})
	standby := start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "//"+leader+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(down.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		tasks := []any{}
		if m.runs {
			tasks = append(tasks, map[string]any{"id": mesosTask, "host": "agent1", "slaveId": slave})
		}
		answer(w, map[string]any{"tasks": tasks, "frameworkId": framework})
	}))
	t.Cleanup(server.Close)
	c, err := marathon.New(marathon.Options{
		URLs: []string{server.URL}, MesosMasters: []string{strings.Replace(down.URL, "//", "//ops:secret@", 1), "http://ops:secret@" + standby},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (m *mesos) write(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(m.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestTaskLogsOnMesos(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*mesos{
		"the master knows the task":           {known: true},
		"only Marathon does":                  {},
		"an agent that knows only its folder": {known: true, old: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startMesos(t, m)
			var long []string
			for n := range 3000 { // more than one piece, cut inside of characters
				long = append(long, fmt.Sprintf("%d „Größe“ \\ / \"%s\" \xff 😀", n, strings.Repeat("ü", n%50)))
			}
			m.write(t, "stdout", strings.Join(long, "\n")+"\n")
			m.write(t, "stderr", "one\r\n\ttwo\nnot ended")
			for _, tail := range []int{1, 2, 700, 2999, 10_000} {
				got := map[string][]string{}
				err := c.TaskLogs(t.Context(), mesosTask, tail, false, func(stream string, at time.Time, text string) error {
					if time.Since(at) > time.Hour {
						t.Fatalf("time %v", at)
					}
					got[stream] = append(got[stream], text)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				last := func(lines []string) []string { return lines[max(0, len(lines)-tail):] }
				want := map[string][]string{"stdout": slices.Clone(last(long)), "stderr": last([]string{"one", "\ttwo", "not ended"})}
				for i := range want["stdout"] {
					want["stdout"][i] = strings.ToValidUTF8(want["stdout"][i], "\uFFFD")
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("tail %d (-want +got):\n%s", tail, diff)
				}
			}
			if err := c.TaskLogs(t.Context(), "web.main.git1.config1.gone", 7, false, nil); !errors.Is(err, marathon.ErrNotFound) {
				t.Errorf("a task that nobody knows: %v", err)
			}
		})
	}
}

func TestEndedOnMesos(t *testing.T) {
	t.Parallel()
	c := startMesos(t, &mesos{known: true})
	got, err := c.Ended(t.Context(), paasta.InstanceID{Service: "web", Instance: "main"})
	want := []marathon.Ended{{
		ID: mesosTask, AppID: "web.main.git1.config1", Host: "agent1", GitSHA: "abc", State: "TASK_FAILED",
		Started: time.UnixMilli(1700000000250), Ended: time.UnixMilli(1700000009500),
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := c.Ended(t.Context(), paasta.InstanceID{Service: "web", Instance: "other"}); len(got) != 0 || err != nil {
		t.Errorf("of another: %v, %v", got, err)
	}
}

func TestFollowOnMesos(t *testing.T) {
	t.Parallel()
	m := &mesos{}
	c := startMesos(t, m)
	m.write(t, "stdout", "before\n")
	m.write(t, "stderr", "")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var got []string
	var latest time.Time
	err := c.TaskLogs(ctx, mesosTask, 10, true, func(_ string, at time.Time, text string) error {
		if !at.After(latest) {
			t.Errorf("%q has time %v, which is not after %v: whoever goes on from there loses it", text, at, latest)
		}
		got, latest = append(got, text), at
		switch text {
		case "before":
			m.write(t, "stdout", "half")
			m.write(t, "stderr", "an error\n")
		case "an error":
			m.write(t, "stdout", " a line\n")
		case "half a line":
			m.write(t, "stdout", "the end")
			m.mu.Lock()
			m.runs = false
			m.mu.Unlock()
		}
		return nil
	})
	if diff := cmp.Diff([]string{"before", "an error", "half a line", "the end"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	// Once more: what was seen then keeps its time.
	var again time.Time
	if err := c.TaskLogs(ctx, mesosTask, 1, false, func(_ string, at time.Time, _ string) error { again = at; return nil }); !errors.Is(err, marathon.ErrNotFound) && (err != nil || again.After(latest)) {
		t.Errorf("read again: %v, %v after %v", err, again, latest)
	}
}
