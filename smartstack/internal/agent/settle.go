package agent

import (
	"context"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// act brings HAProxy and the files in step with what was decided.
func (a *Agent) act(ctx context.Context) {
	now := time.Now()
	a.compare(now)
	a.name(ctx, now)
	if len(a.hap.doubts) > 0 && a.hap.pid != 0 {
		a.resync(ctx)
	}
	if a.hap.pid != 0 && now.After(a.hap.retryAt) {
		a.hap.retryAt = time.Time{}
		a.tellHealth(ctx, now)
		a.membership(ctx, now)
		a.reap(ctx, now)
	}
	if a.hap.pid == 0 && len(a.sections()) > 0 {
		a.hap.wishes.add(haproxy.NotRunning, "no HAProxy runs")
	}
	if at := a.hap.wishes.due(); !at.IsZero() && !now.Before(at) && !a.settling(now) {
		a.reload(ctx)
	}
	if a.hap.pid != 0 && !a.hap.keepAt.IsZero() && now.After(a.hap.keepAt) {
		a.keep(ctx)
	}
	a.files.write(a, time.Now())
}

// settling tells whether this agent has just started, and soa-configs have not
// been read, the registry has not answered for every registration, or servers have not been probed yet. A host
// that has never served does not wait for probes: all that it could do meanwhile
// is to refuse its clients.
func (a *Agent) settling(now time.Time) bool {
	if a.hap.settleBy.IsZero() {
		return false
	}
	if now.After(a.hap.settleBy) {
		if !a.hap.cold || now.After(a.hap.settleEnd) {
			return false
		}
		// One config with everything is there sooner than one with a part and
		// thousands of commands, as long as answers keep coming.
		confirmed := 0
		for _, r := range a.registrations {
			if r.confirmed {
				confirmed++
			}
		}
		if confirmed == a.hap.settled {
			return false
		}
		a.hap.settled, a.hap.settleBy = confirmed, now.Add(settle/4)
	} else if a.tree == nil {
		return true // what it says may need another config than the last good one
	}
	for _, r := range a.registrations {
		if !r.confirmed && r.readErr == "" {
			return true
		}
		for _, p := range r.probing {
			if !p.held && p.err == "" {
				return true
			}
		}
	}
	a.hap.settleBy = time.Time{}
	return false
}
