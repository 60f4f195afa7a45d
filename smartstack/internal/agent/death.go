package agent

import (
	"context"
	"errors"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// Deaths that follow each other within deathsApart count together; after so many
// of them a start waits a little.
const (
	deathsApart  = 10 * time.Second
	deathsAtOnce = 5
)

// died starts HAProxy again, at once, from the file. Connections that come
// meanwhile wait in the listeners that were kept.
func (a *Agent) died(ctx context.Context) {
	a.log.Error("HAProxy died", "pid", a.hap.pid)
	a.o.Metrics.deaths.Inc()
	now := time.Now()
	if now.Sub(a.hap.diedAt) > deathsApart {
		a.hap.deaths = 0
	}
	a.hap.deaths++
	a.hap.diedAt = now
	a.runtime.CloseIdle()
	a.hap.pid, a.hap.gone = 0, nil
	a.hap.leaving, a.hap.retryAt = map[string]time.Time{}, time.Time{}
	a.writeConfig()
	if n := a.hap.deaths - deathsAtOnce; n > 0 {
		a.hap.wishes.add(haproxy.Died, "HAProxy died")
		a.hap.wishes.notBefore = latest(a.hap.wishes.notBefore, now.Add(min(time.Second<<min(n, 6), time.Minute)))
		a.o.Process.Kept.Drop() // a client should rather hear that nobody is there
		return
	}
	a.restart(ctx)
}

// restart starts HAProxy where none serves, from the file.
func (a *Agent) restart(ctx context.Context) {
	if err := a.o.Process.KeepHealth(ctx, 0); err != nil {
		a.log.Warn("removed old server states", "err", err)
	}
	pid, err := a.o.Process.Start(ctx, 0)
	if err != nil {
		a.log.Error("started HAProxy again", "err", err)
		a.hap.wishes.add(haproxy.Died, "HAProxy died")
		return
	}
	a.started(ctx, pid)
	a.log.Info("started HAProxy again", "pid", pid)
}

// keep holds the listeners of the process that runs.
func (a *Agent) keep(ctx context.Context) {
	err := a.o.Process.Kept.Take(ctx, a.o.Process.Socket(), a.hap.pid)
	if errors.Is(err, haproxy.ErrOtherProcess) { // the old one, for a moment yet
		a.hap.keepAt = time.Now().Add(20 * time.Millisecond)
		return
	}
	if err != nil {
		a.hap.keepAt = time.Now().Add(time.Second)
		a.log.Warn("kept the listeners of HAProxy", "err", err)
		return
	}
	a.hap.keepAt = time.Time{}
}
