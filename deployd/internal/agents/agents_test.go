package agents

import (
	"context"
	"fmt"
	"maps"
	"strings"
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

func TestPick(t *testing.T) {
	t.Parallel()
	var live []paasta.AgentNode
	for n := range 100 {
		live = append(live, paasta.AgentNode{Host: fmt.Sprint("host", n)})
	}
	preferred := func(a paasta.AgentNode) bool { return strings.HasPrefix(a.Host, "host9") } // 11 of them
	hosts := func(key string) map[string]bool {
		all := map[string]bool{}
		for _, a := range Pick(live, preferred, key, 20) {
			all[a.Host] = true
		}
		return all
	}
	web := hosts("web.main")
	n := 0
	for host := range web {
		if preferred(paasta.AgentNode{Host: host}) {
			n++
		}
	}
	if len(web) != 20 || n != 11 {
		t.Errorf("%d hosts, %d of the 11 that are preferred", len(web), n)
	}
	if again := hosts("web.main"); !maps.Equal(again, web) {
		t.Errorf("others for the same key: %v and %v", web, again)
	}
	if other := hosts("api.main"); maps.Equal(other, web) {
		t.Error("the same for another key")
	}
}
