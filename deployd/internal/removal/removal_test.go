package removal

import (
	"fmt"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	world := func(absences ...Absence) map[paasta.InstanceID]Absence {
		m := map[paasta.InstanceID]Absence{}
		for n, a := range absences {
			m[paasta.InstanceID{Service: "web", Instance: fmt.Sprint(n)}] = a
		}
		return m
	}
	for _, tt := range []struct {
		name string
		is   map[paasta.InstanceID]Absence
		want int
	}{
		{"nothing is gone", world(Present, Present), 0},
		{"one of three", world(Present, Present, Explicit), 1},
		{"the only one, from its own file", world(Explicit), 1},
		{"the only one, with its file", world(Implicit), 0},
		{"one of two with its file", world(Present, Implicit), 1},
		{"two of three", world(Present, Explicit, Explicit), 0},
		{"all", world(Implicit, Implicit, Implicit), 0},
	} {
		g := Guard{Hold: time.Minute}
		if remove, again := g.Look(at(0), tt.is); len(remove) != tt.want || (g.Why() == "") != again.IsZero() {
			t.Errorf("%s: %v are taken down, again %v (%s), want %d", tt.name, remove, again, g.Why(), tt.want)
		}
	}

	g := Guard{Hold: time.Minute}
	all := world(Implicit, Implicit)
	for _, step := range []struct{ second, want int }{{0, 0}, {59, 0}, {60, 2}} {
		if remove, _ := g.Look(at(step.second), all); len(remove) != step.want {
			t.Errorf("after %d s: %v are taken down, want %d", step.second, remove, step.want)
		}
	}
	g = Guard{Hold: time.Minute}
	g.Look(at(0), all)
	g.Look(at(30), world(Present, Present)) // the directory was mounted again
	if remove, _ := g.Look(at(61), all); len(remove) != 0 {
		t.Errorf("what came back and went again waits anew, %v are taken down", remove)
	}
	g.Confirm("", at(62))
	if remove, _ := g.Look(at(62), all); len(remove) != 2 {
		t.Errorf("what is confirmed goes, %v are taken down", remove)
	}
	// What is being taken down goes on, whatever is left.
	if remove, _ := g.Look(at(1000), world(Implicit)); len(remove) != 1 {
		t.Errorf("%v are taken down, want the one that was confirmed", remove)
	}
}
