package agents

import (
	"context"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

func TestKeep(t *testing.T) {
	t.Parallel()
	v := New(Options{Linger: time.Hour, Changed: func() {}})
	ctx, stop := context.WithCancel(t.Context())
	node := func(version int64) paasta.AgentNode {
		return paasta.AgentNode{Host: "host1", Applied: map[string]int64{"web.main": version}}
	}
	for _, step := range []struct {
		name    string
		version int64
		news    bool
	}{
		{"an agent that was not known is news", 1, true},
		{"the same words are no news", 1, false},
		{"another version is news", 2, true},
	} {
		if got := v.keep(ctx, "host1", node(step.version)); got != step.news {
			t.Errorf("%s: keep = %t", step.name, got)
		}
	}
	// The node went while what it said last was still being read.
	stop()
	v.forget("host1")
	if v.keep(ctx, "host1", node(3)) {
		t.Error("what a vanished agent said is news")
	}
	live, lingering := v.Live()
	if len(live) != 0 || len(lingering) != 1 {
		t.Errorf("after the agent has gone: live %v, lingering %v", live, lingering)
	}
}
