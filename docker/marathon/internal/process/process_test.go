package process

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A runner in a test, and what it reports.
type runner struct {
	*Runner
	t       *testing.T
	reports chan core.Status
}

func newRunner(t *testing.T) *runner {
	t.Helper()
	r := &runner{t: t, reports: make(chan core.Status, 10)}
	r.Runner = New(t.Context(), Options{
		Sandboxes: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Fetch:  func(context.Context, core.Task, string) error { return nil },
		Report: func(s core.Status) { r.reports <- s },
		Found:  func([]core.Status) {},
	})
	return r
}

func (r *runner) begin() {
	done := make(chan error, 1)
	go func() { done <- r.Run(r.t.Context()) }()
	r.t.Cleanup(func() {
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

func (r *runner) launch(id, cmd string) {
	r.Launch(core.Launch{Task: core.Task{ID: id, App: &definition.App{Cmd: &cmd}}})
}

// reported waits for a report, and checks it.
func (r *runner) reported(id, state, message string) {
	r.t.Helper()
	select {
	case s := <-r.reports:
		if s.TaskID != id || s.State != state || s.Message != message {
			r.t.Errorf("reported %+v, want %s %s %q", s, id, state, message)
		}
	case <-time.After(10 * time.Second):
		r.t.Fatalf("%s is not reported %s", id, state)
	}
}

// What is asked for before Run has begun is done, not lost.
func TestBeforeRun(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	r.launch("early", "exit 0")
	r.begin()
	r.reported("early", core.Running, "")
	r.reported("early", core.Finished, "Command exited with status 0")

	// And a kill as well.
	r = newRunner(t)
	r.launch("killed", "exec sleep 1000")
	r.Kill(core.Kill{TaskID: "killed"})
	r.begin()
	r.reported("killed", core.Running, "")
	select {
	case s := <-r.reports:
		if s.State != core.Failed {
			t.Errorf("reported %+v", s)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it was not killed")
	}
}

// A task that has no process, and gets none, can be killed all the same: its app
// could not be deleted otherwise.
func TestKillOfNobody(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	r.begin()
	r.Kill(core.Kill{TaskID: "nobody"})
	r.reported("nobody", core.Gone, "its process is gone")
}

func TestEnding(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	for status, want := range map[string]string{
		"0": "Command exited with status 0", "3": "Command exited with status 3", "143": "Command terminated with signal terminated",
		"255": "Command exited with status 255", "": "Command terminated with signal Killed",
	} {
		id := "task" + status
		dir := filepath.Join(r.o.Sandboxes, id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, exitFile), []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := r.ending(id); s.Message != want || (s.State == core.Finished) != (status == "0") {
			t.Errorf("status %q: %+v, want %q", status, s, want)
		}
	}
}
