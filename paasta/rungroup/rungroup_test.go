package rungroup

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroup(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"fails", t.Context(), errors.New("no disk"), "writer: no disk"},
		{"stops early without an error", t.Context(), nil, "writer: stopped by itself"},
		{"was told to stop", ended, context.Canceled, ""},
	}
	for _, tt := range tests {
		g, _ := WithContext(tt.ctx)
		g.Go("writer", func(context.Context) error { return tt.err })
		g.Go("reader", func(ctx context.Context) error {
			<-ctx.Done() // the first that ends ends all
			return ctx.Err()
		})
		got := ""
		if err := g.Wait(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
