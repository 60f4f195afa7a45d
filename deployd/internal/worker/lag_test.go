package worker

import (
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/sysconfig"
)

func TestGrace(t *testing.T) {
	t.Parallel()
	w := New(Options{Config: sysconfig.Config{DrainGrace: 2 * time.Second}})
	r := &round{Worker: w}
	now := time.Now()
	check := func(why string, want time.Duration) {
		t.Helper()
		if got := r.grace(now); got != want {
			t.Errorf("%s: %s, want %s", why, got, want)
		}
	}
	check("nothing is known", 2*time.Second)
	w.lag.saw(time.Second, now)
	check("agents are fast", 2*time.Second)
	w.lag.saw(7*time.Second, now)
	w.lag.saw(time.Second, now)
	check("an agent was slow", 7*time.Second)
	w.lag.saw(time.Hour, now)
	check("an agent had lost the registry", maxLag)
	now = now.Add(lagTells + time.Second)
	check("that was long ago", 2*time.Second)
	w.lag.saw(3*time.Second, now)
	check("and another one since", 3*time.Second)
	w.o.Config.DrainGrace = 0
	check("nobody runs synapse", 0)
}
