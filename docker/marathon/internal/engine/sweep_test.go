package engine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

func TestUnneeded(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 2, 1, 10, 0, 0, 0, time.UTC)
	of := func(id, app string, state container.ContainerState, age time.Duration) container.Summary {
		return container.Summary{ID: id, State: state, Created: now.Add(-age).Unix(), Labels: map[string]string{taskLabel: "task-" + id, appLabel: app}}
	}
	list := []container.Summary{
		of("runs", "/a", container.StateRunning, 100*time.Hour),
		of("is made", "/a", container.StateCreated, time.Minute),
		of("waits for its start", "/a", container.StateCreated, time.Hour),
		of("was killed while it was made", "/a", container.StateCreated, time.Hour),
		of("is old", "/b", container.StateExited, 2*time.Hour),
	}
	for _, id := range []string{"1", "2", "3", "4", "5", "6"} {
		list = append(list, of(id, "/a", container.StateExited, time.Minute))
	}
	var got []string
	for _, c := range unneeded(list, now, func(task string) bool { return task == "task-waits for its start" }) {
		got = append(got, c.ID)
	}
	if want := []string{"was killed while it was made", "is old", "6"}; !slices.Equal(got, want) {
		t.Errorf("to be removed: %q, want %q", got, want)
	}
}

func TestSweepSandboxes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "old and needed": 2 * time.Hour, "new": time.Minute} {
		sandbox := filepath.Join(dir, name)
		if err := os.Mkdir(sandbox, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(sandbox, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepSandboxes(dir, now.Add(-time.Hour), func(id string) bool { return id == "old and needed" }); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := sweepSandboxes(filepath.Join(dir, "none"), now, nil); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
