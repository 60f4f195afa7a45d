package daemon

import (
	"context"
	"testing"

	"github.com/docker/docker/api/types/container"
)

func TestEnding(t *testing.T) {
	const child = "; one of its processes was killed at the memory limit"
	for _, test := range []struct {
		status      int
		killed      bool // what the engine says
		outOfMemory bool
		want        string
	}{
		{0, false, false, "0"},
		{0, true, false, "0" + child},
		{1, true, false, "1" + child},
		{9, false, false, "9"},
		{128, false, false, "128"},
		{129, false, false, "129 (signal 1)"},
		{137, false, false, "137 (signal 9)"},
		{137, true, true, "137 (signal 9)"},
		{143, true, false, "143 (signal 15)" + child},
		{192, false, false, "192 (signal 64)"},
		{193, false, false, "193"},
		{255, false, false, "255"},
	} {
		s := &container.State{ExitCode: test.status, OOMKilled: test.killed}
		if got := ExitText(s); got != test.want || OutOfMemory(s) != test.outOfMemory {
			t.Errorf("%d, OOMKilled %v: %q, out of memory %v, want %q, %v", test.status, test.killed, got, OutOfMemory(s), test.want, test.outOfMemory)
		}
	}
}

// late is an engine that hears of the kernel's kill after so many questions.
type late struct{ after, asked int }

func (l *late) ContainerInspect(context.Context, string) (container.InspectResponse, error) {
	l.asked++
	return container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{State: &container.State{OOMKilled: l.asked > l.after}}}, nil
}

func TestOf(t *testing.T) {
	t.Parallel()
	engine := &late{after: 2}
	if s := ExitState(t.Context(), engine, "x", 137); !OutOfMemory(s) {
		t.Errorf("a kill of which the engine hears late: %+v", s)
	}
	engine = &late{after: 1000}
	if s := ExitState(t.Context(), engine, "x", 1); s.ExitCode != 1 || s.OOMKilled || engine.asked != 1 {
		t.Errorf("a status that no kill gives: %+v after %d questions", s, engine.asked)
	}
}
