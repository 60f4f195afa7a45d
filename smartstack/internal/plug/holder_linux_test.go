package plug

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A guard that ends while it holds, or cannot let go, is done without: what it
// held goes on at once, and once.
func TestHolderWithoutItsGuard(t *testing.T) {
	t.Parallel()
	const held = `read order; echo '{"n":1,"event":"held"}'; `
	for name, tt := range map[string]struct {
		guard   string // a shell's
		rescue  error
		err     string // of Release
		rescues int
		lapsed  int
		log     string
	}{
		"that lets go": {
			guard: held + `while read order; do case $order in *release*) echo '{"n":2,"event":"released","why":"asked","waited":7,"held":1}'; esac; done`,
		},
		"that dies": {
			guard: held + `kill -9 $$`, rescues: 1, lapsed: 1, log: "died",
		},
		"that dies, and nothing helps": {
			guard: held + `kill -9 $$`, rescue: errors.New("netlink is away"), rescues: 1, lapsed: 1, err: "netlink is away",
		},
		"that dies when asked": {
			guard: held + `while read order; do case $order in *release*) kill -9 $$; esac; done`, rescues: 1, lapsed: 1, log: "released without the guard",
		},
		"that is frozen": {
			guard: held + `kill -STOP $$`, rescues: 1, lapsed: 1, log: "released without the guard",
		},
		"that cannot let go": {
			guard:   held + `while read order; do case $order in *release*) echo '{"n":2,"event":"error","why":"no memory","held":1}'; esac; done`,
			rescues: 1, lapsed: 1, log: "no memory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log lockedBuffer
			h := newHolder(Options{GuardCommand: []string{"sh", "-c", tt.guard}, Log: slog.New(slog.NewTextHandler(&log, nil))}.withDefaults())
			rescued := make(chan struct{}, 10)
			h.rescue = func() (int, error) { rescued <- struct{}{}; return 3, tt.rescue }
			if err := h.hold(t.Context()); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "that dies") && name != "that dies when asked" {
				// Nobody has asked for anything yet.
				paastatest.Until(t, "it to let go", func() bool { return len(rescued) == 1 })
			}
			err := h.release(t.Context())
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("release: %v, want %q", err, tt.err)
			}
			if n := len(rescued); n != tt.rescues {
				t.Errorf("let go %d times without the guard, want %d", n, tt.rescues)
			}
			if c := h.counts(); c.Done != 1 || c.Lapsed != tt.lapsed || c.Waited == 0 && tt.lapsed == 0 {
				t.Errorf("counts: %+v, want one hold, %d lapsed", c, tt.lapsed)
			}
			if !strings.Contains(log.String(), tt.log) {
				t.Errorf("the log does not say %q:\n%s", tt.log, log.String())
			}
			if err := h.close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}
