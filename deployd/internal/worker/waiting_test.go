package worker

import (
	"testing"

	"github.com/gopaasta/paasta/paasta"
)

func TestWaiting(t *testing.T) {
	t.Parallel()
	w := New(Options{})
	for name, s := range map[string]paasta.BounceStatus{
		"never-deployed": {State: "waiting"},
		"waits":          {State: "waiting", App: "web.waits.git1.config1"},
		"steady":         {State: "steady", App: "web.steady.git1.config1"},
	} {
		w.noteOf(paasta.InstanceID{Service: "web", Instance: name}).update(func(b *paasta.BounceStatus) { b.State, b.App = s.State, s.App })
	}
	if got := w.Waiting(); len(got) != 1 || got[0].Instance != "waits" {
		t.Errorf("Waiting = %v, want only web.waits", got)
	}
}
