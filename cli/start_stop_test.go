package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestConfirm(t *testing.T) {
	t.Parallel()
	one := stateFlags{selection: selection{instances: []string{"main"}, clusters: []string{"test"}}}
	for _, tc := range []struct {
		name     string
		tty      bool
		flags    stateFlags
		services []string
		typed    string
		want     string // of the error, "" for go on
	}{
		{"one instance is not asked about", true, one, []string{"web"}, "", ""},
		{"yes", true, stateFlags{}, []string{"web"}, "y\n", ""},
		{"YES", true, stateFlags{}, []string{"web"}, " YES \n", ""},
		{"no", true, stateFlags{}, []string{"web"}, "n\n", "nothing was changed"},
		{"only return", true, stateFlags{}, []string{"web"}, "\n", "nothing was changed"},
		{"the end of the input", true, stateFlags{}, []string{"web"}, "y", "nothing was changed"},
		{"--yes", true, stateFlags{yes: true}, []string{"api", "web"}, "", ""},
		{"a script with one service", false, stateFlags{}, []string{"web"}, "", ""},
		{"a script with two", false, stateFlags{}, []string{"api", "web"}, "", "add --yes"},
	} {
		env, _, _ := testEnv()
		env.InTTY, env.In = tc.tty, strings.NewReader(tc.typed)
		err := confirm(t.Context(), env, tc.flags, tc.services)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestConfirmIsInterrupted: the question is not what Ctrl-C waits for.
func TestConfirmIsInterrupted(t *testing.T) {
	t.Parallel()
	env, _, stderr := testEnv()
	typed, keyboard := io.Pipe() // nobody types
	defer keyboard.Close()
	env.InTTY, env.In = true, typed
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	done := make(chan error, 1)
	go func() { done <- confirm(ctx, env, stateFlags{}, []string{"web"}) }()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) || !strings.Contains(stderr.String(), "nothing was changed") {
			t.Errorf("%v, %q", err, stderr)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for an answer")
	}
}
