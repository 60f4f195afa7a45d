package worker

import (
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
