package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/command"
)

func TestWhileReadEndsWithTheReader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := whileRead(t.Context(), w)
	defer cancel()
	if _, err := w.WriteString("a line\n"); err != nil || ctx.Err() != nil {
		t.Fatalf("while it is read: %v, %v", err, ctx.Err())
	}
	r.Close()
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("nobody reads any more, and the context goes on")
	}
	if exit, ok := errors.AsType[command.ExitError](context.Cause(ctx)); !ok || exit.Code != 141 {
		t.Errorf("cause %v, want exit code 141", context.Cause(ctx))
	}
}

func TestWhileReadOfABufferEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent, stop := context.WithCancel(t.Context())
	ctx, cancel := whileRead(parent, &bytes.Buffer{})
	defer cancel()
	if ctx.Err() != nil {
		t.Error(ctx.Err())
	}
	stop()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cause %v", err)
	}
}
