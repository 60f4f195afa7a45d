package worker

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/paasta"
)

type kill struct {
	IDs   []string
	Scale bool
}

// A killer is a Marathon that notes what it is asked to kill.
type killer struct {
	Marathon
	kills []kill
}

func (k *killer) KillTasks(_ context.Context, ids []string, scale, _ bool) error {
	k.kills = append(k.kills, kill{ids, scale})
	return nil
}

// Only the first kill of a task lowers its app's size.
func TestKillsOfAnAppAreOneRequest(t *testing.T) {
	t.Parallel()
	marathon := &killer{}
	id := paasta.InstanceID{Service: "web", Instance: "main"}
	w := New(Options{
		Marathon: marathon, Log: slog.New(slog.DiscardHandler),
		Say: func(paasta.InstanceID, string, string) {}, AtStep: func(string) {},
	})
	r := &round{Worker: w, job: Job{ID: id}, note: w.noteOf(id)}
	err := r.kill(t.Context(), []bounce.Step{
		{Op: bounce.Kill, App: "a", Task: "a.1"},
		{Op: bounce.Kill, App: "a", Task: "a.2", Again: true},
		{Op: bounce.Kill, App: "b", Task: "b.1"},
		{Op: bounce.Kill, App: "a", Task: "a.3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []kill{{[]string{"a.1", "a.3"}, true}, {[]string{"a.2"}, false}, {[]string{"b.1"}, true}}
	if diff := cmp.Diff(want, marathon.kills); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if len(r.note.killed) != 4 {
		t.Errorf("noted: %v", r.note.killed)
	}
}
