package agent

import (
	"context"
	"fmt"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// identify finds out, once, which HAProxy this is, and says what that means. The
// error is of one that cannot be used; one that does not say is asked again before
// the next start.
func (a *Agent) identify(ctx context.Context) error {
	if a.hap.version != "" {
		return nil
	}
	v, full, err := a.o.Process.Version(ctx)
	if err != nil {
		a.log.Error("ask HAProxy for its version failed", "err", err)
		return nil
	}
	if v.Before(haproxy.Oldest) {
		return fmt.Errorf("%s is HAProxy %s: version %s or later is needed, which passes its listening sockets on at a reload", a.o.Process.Binary, full, haproxy.Oldest)
	}
	a.hap.version, a.o.Global.Version = full, v
	for _, lost := range v.Lost() {
		a.log.Error("this HAProxy "+lost, "version", full)
	}
	if v.Untested() {
		a.log.Info("this HAProxy is newer than those that were tested", "version", full, "tested", fmt.Sprint(haproxy.Tested))
	}
	return nil
}
