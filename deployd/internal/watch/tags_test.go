package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// A service that has no repository yet is nothing to worry about; what goes
// wrong once it has one is said, once.
func TestNoRepositoryIsNoFailure(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	var heard, counted []string
	var answer error
	tags := NewTags(TagsOptions{
		Poll: time.Minute, Timeout: time.Second, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Read:    func(context.Context, string) ([]byte, error) { return nil, answer },
		Failed:  func(_ string, err error) { heard = append(heard, fmt.Sprint(err)) },
		Count:   func(what string, _ time.Duration) { counted = append(counted, what) },
		Changed: func(string) {},
	})
	none, away := fmt.Errorf("git_url is not set: %w", ErrNoRepository), errors.New("git is away")
	for _, answer = range []error{none, none, away, away, none} {
		tags.one(t.Context(), "web")
	}
	if want := []string{"git is away", "<nil>"}; !slices.Equal(heard, want) {
		t.Errorf("the deploy log heard %q, want %q", heard, want)
	}
	if want := []string{"failed", "failed"}; !slices.Equal(counted, want) {
		t.Errorf("counted %q, want %q", counted, want)
	}
	if strings.Count(log.String(), "WARN") != 1 {
		t.Errorf("the log warns more than once:\n%s", log.String())
	}
}
