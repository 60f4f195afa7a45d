//go:build linux

package playground

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Delays before a daemon that ended is started again: at once for one that had
// run for a while, then longer and longer.
const (
	firstDelay = 200 * time.Millisecond
	lastDelay  = 10 * time.Second
	ranWell    = 30 * time.Second
)

// Supervise keeps the daemons of a playground alive until ctx ends, and leaves
// them running then. It adopts those that run already. Only one supervisor runs
// at a time; a second one returns an error.
func (p *Playground) Supervise(ctx context.Context, log *slog.Logger) error {
	unlock, err := lockDir(p.path("run"))
	if err != nil {
		return fmt.Errorf("another supervisor runs: %w", err)
	}
	defer unlock()
	self, err := running(os.Getpid())
	if err != nil {
		return err
	}
	self.Started, self.Build = time.Now(), buildOf(p.Binary)
	if err := p.writePID("supervisor", self); err != nil {
		return err
	}
	n, err := p.Enter()
	if err != nil {
		return err
	}
	defer n.Close()

	daemons := p.daemons()
	var wg sync.WaitGroup
	for _, d := range daemons {
		wg.Go(func() { p.keepAlive(ctx, d, daemons, n, log.With("daemon", d.name)) })
	}
	wg.Wait()
	return nil
}

// keepAlive adopts or starts d, and starts it again whenever it ends.
func (p *Playground) keepAlive(ctx context.Context, d daemon, all []daemon, n *Namespace, log *slog.Logger) {
	if proc := p.readPID(d.name); proc.alive() {
		log.Info("adopted", "pid", proc.PID)
		go p.settle(ctx, d, n, log)
		if err := proc.wait(ctx); err != nil {
			return
		}
		log.Warn("ended", "pid", proc.PID, "why", "not our child")
	}
	delay := time.Duration(0)
	for ctx.Err() == nil {
		if !sleep(ctx, delay) {
			return
		}
		p.awaitOthers(ctx, d, all, n)
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		cmd, proc, err := p.start(d)
		if err == nil {
			log.Info("started", "pid", proc.PID)
			go p.settle(ctx, d, n, log)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-ctx.Done():
				return // it goes on; the next supervisor adopts it
			case err = <-ended:
			}
		} else if cmd != nil {
			err = errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		delay = nextDelay(delay, time.Since(began))
		log.Warn("ended", "pid", proc.PID, "why", fmt.Sprint(err), "took", time.Since(began).Round(time.Millisecond), "retry_in", delay)
	}
}

// settle finishes a start once the daemon is ready. One that is not within two
// minutes, or has been replaced, is finished all the same.
func (p *Playground) settle(ctx context.Context, d daemon, n *Namespace, log *slog.Logger) {
	if d.settled == nil {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if until(bounded, func(ctx context.Context) error { return d.ready(ctx, n) }) != nil && ctx.Err() != nil {
		return // the next supervisor does it
	}
	if err := d.settled(); err != nil {
		log.Warn("process did not become ready", "err", err)
	}
}

// nextDelay says how long to wait after a run of some length that came after a
// wait of last.
func nextDelay(last, ran time.Duration) time.Duration {
	if ran >= ranWell || last == 0 {
		return firstDelay
	}
	return min(last*2, lastDelay)
}

// awaitOthers waits, for a bounded time, until the daemons that d needs are
// ready. d copes with their absence later on, but its first start is quieter so.
func (p *Playground) awaitOthers(ctx context.Context, d daemon, all []daemon, n *Namespace) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, other := range all {
		if slices.Contains(d.after, other.name) {
			// It is started even if that is not to be.
			_ = until(ctx, func(ctx context.Context) error { return other.ready(ctx, n) })
		}
	}
}

// until asks again and again until the answer is nil, and returns the last
// answer when ctx has ended.
func until(ctx context.Context, ask func(context.Context) error) error {
	for pause := 20 * time.Millisecond; ; pause = min(pause*2, 250*time.Millisecond) {
		once, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := ask(once)
		cancel()
		if err == nil {
			return nil
		}
		if !sleep(ctx, pause) {
			return err
		}
	}
}

// sleep tells whether it could sleep for d before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
