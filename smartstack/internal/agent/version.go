package agent

import (
	"cmp"
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
		a.log.Error("this HAProxy is too old for some features", "version", full, "lost", lost)
	}
	if v.Untested() {
		a.log.Info("this HAProxy is newer than those that were tested", "version", full, "tested", fmt.Sprint(haproxy.Tested))
	}
	return nil
}

// fit notes how many connections HAProxy gets, and says once when that is less
// than what it should.
func (a *Agent) fit(sections []*haproxy.Section) {
	want := a.o.Global.MaxConn
	n, needed := haproxy.FitMaxConn(a.o.Global, a.custom.text, sections)
	if n < want && cmp.Or(a.hap.maxConn, want) == want {
		a.log.Error("HAProxy gets fewer connections than smartstack.maxconn says: it may not open enough files; raise LimitNOFILE of the agent's unit, or lower smartstack.maxconn",
			"maxconn", n, "wanted", want, "files", a.o.Global.Files, "files_needed", needed)
	}
	a.hap.maxConn = n
}
