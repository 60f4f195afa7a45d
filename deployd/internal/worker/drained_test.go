package worker

import (
	"errors"
	"testing"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/drain"
)

func TestDrainView(t *testing.T) {
	t.Parallel()
	own := drainMethod{"http", drain.HTTP{}}
	broken := errors.New("connection refused")
	none := func() string { return "" }
	some := func() string { return "3 connections are left" }
	tests := []struct {
		name           string
		view           drainView
		draining, safe bool
		why            string
	}{
		{"serves", drainView{running: true, registered: true, weight: 10}, false, false, ""},
		{"never took traffic", drainView{running: true}, false, true, ""},
		{"does not run", drainView{registered: true, weight: 10}, false, true, ""},
		{"noop waits for nobody", drainView{method: drainMethod{name: "noop"}, running: true, registered: true, weight: 10}, false, true, ""},
		{
			"weight 0, and still has traffic",
			drainView{running: true, registered: true, left: 1, traffic: some},
			true, false, "3 connections are left",
		},
		{"weight 0, and has none", drainView{running: true, registered: true, left: 1, traffic: none}, true, true, "drained"},
		{
			"weight 0 for as long as it may",
			drainView{running: true, registered: true, limit: time.Minute, traffic: some},
			true, true, "not drained within the drain timeout of 1m0s: 3 connections are left",
		},
		{
			"weight 0, has no traffic, and synapse may not know yet",
			drainView{running: true, registered: true, left: 1, traffic: none, wait: 2 * time.Second, grace: 1},
			true, false, "out of the registry for less than 2s: a host with synapse may not know yet",
		},
		{
			"weight 0 for as long as it may, and synapse may not know yet",
			drainView{running: true, registered: true, limit: time.Second, traffic: none, wait: 2 * time.Second, grace: 1},
			true, false, "out of the registry for less than 2s: a host with synapse may not know yet",
		},
		{
			"synapse may not know yet, but of a task that is in no registry",
			drainView{method: own, running: true, left: 1, wait: 2 * time.Second, grace: 1, answer: drainAnswer{draining: true, safe: true}},
			true, true, "drained",
		},
		{"a method that was not asked", drainView{method: own, running: true, registered: true, weight: 10}, false, false, ""},
		{"only the method knows of a task without entries", drainView{method: own, running: true}, false, false, ""},
		{
			"the method cannot be asked",
			drainView{method: own, running: true, answer: drainAnswer{err: broken}},
			false, false, "drain method http: connection refused",
		},
		{
			"the method says that it drains",
			drainView{method: own, running: true, left: 1, answer: drainAnswer{draining: true}},
			true, false, "drain method http says that it is not safe to kill yet",
		},
		{
			"the method says that it has drained",
			drainView{method: own, running: true, left: 1, answer: drainAnswer{draining: true, safe: true}},
			true, true, "drained",
		},
		{
			"the method says so, and there is traffic",
			drainView{method: own, running: true, registered: true, left: 1, traffic: some, answer: drainAnswer{draining: true, safe: true}},
			true, false, "3 connections are left",
		},
		{
			"told to drain, and does not answer",
			drainView{method: own, running: true, left: 1, answer: drainAnswer{draining: true, err: broken}},
			true, false, "drain method http: connection refused",
		},
		{
			"told to drain, and did not answer for as long as it may",
			drainView{method: own, running: true, limit: time.Minute, answer: drainAnswer{draining: true, err: broken}},
			true, true, "not drained within the drain timeout of 1m0s: drain method http: connection refused",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			draining, safe, why := tt.view.judge()
			if draining != tt.draining || safe != tt.safe || why != tt.why {
				t.Errorf("draining %v, safe %v, %q; want %v, %v, %q", draining, safe, why, tt.draining, tt.safe, tt.why)
			}
		})
	}
}
