package worker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/marathon"
)

// A task's start is told by the clock of its own host, which may be ahead.
func TestHealthyByUptime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		started time.Time
		uptime  time.Duration
		healthy bool
		young   time.Duration
	}{
		{"no uptime is asked for", now, 0, true, 0},
		{"no uptime is asked for, and the host's clock is ahead", now.Add(time.Hour), 0, true, 0},
		{"it runs for long enough", now.Add(-10 * time.Second), 10 * time.Second, true, 0},
		{"it does not yet", now.Add(-4 * time.Second), 10 * time.Second, false, 6 * time.Second},
		{"the host's clock is ahead", now.Add(time.Hour), 10 * time.Second, false, 10 * time.Second},
		{"it has no start yet", time.Time{}, 0, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			task := marathon.Task{State: "TASK_RUNNING", StartedAt: tt.started}
			if got := healthy(marathon.App{}, task, tt.uptime, now); got != tt.healthy {
				t.Errorf("healthy = %v, want %v", got, tt.healthy)
			}
			if got := young(task, tt.uptime, now); got != tt.young {
				t.Errorf("young for %s, want %s", got, tt.young)
			}
		})
	}
}

func TestStateAfter(t *testing.T) {
	t.Parallel()
	answer := func(code int) error {
		return fmt.Errorf("create app web.main: %w", &marathon.StatusError{Code: code, Message: "said so"})
	}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"Marathon will not have the app", answer(422), "failed"},
		{"Marathon cannot read the app", answer(400), "failed"},
		{"a deployment has the app", answer(409), "waiting"},
		{"Marathon has no leader", answer(503), "unknown"},
		{"two members answer 5xx", errors.Join(answer(502), answer(503)), "unknown"},
		{"our password is wrong", answer(401), "unknown"},
		{"Marathon is not there", errors.New("list apps: connection refused"), "unknown"},
	} {
		if got := stateAfter(tc.err); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
