package plug

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// guardIdle is how long a guard that holds nothing waits for more work.
const guardIdle = time.Minute

// errReleasedByOther says that the choice of packets has vanished, because
// somebody ran "plug release" or "plug clear".
var errReleasedByOther = errors.New("released by somebody else")

// An order is what the parent writes to the guard, one JSON value a line.
type order struct {
	N    int           `json:"n,omitempty"`    // number of the order; its answer has it too
	Do   string        `json:"do"`             // hold, beat, release
	Wait time.Duration `json:"wait,omitempty"` // hold: how long to wait for another run
}

// A report is what the guard writes back.
type report struct {
	N      int           `json:"n,omitempty"` // the order that it answers; 0 for none
	Event  string        `json:"event"`       // held, released, error
	Why    string        `json:"why,omitempty"`
	Locked bool          `json:"locked,omitempty"` // error: another run has the plug
	Hint   string        `json:"hint,omitempty"`   // error: what to do
	Waited int           `json:"waited,omitempty"` // released: how many SYNs
	Held   time.Duration `json:"held,omitempty"`   // released: for how long
}

// Why a hold ended.
const (
	whyAsked   = "asked"
	whyBound   = "bound"   // it took longer than Options.Hold
	whySilent  = "silent"  // the parent said nothing: it is stopped
	whyGone    = "gone"    // the parent is dead
	whyStopped = "stopped" // the guard was told to end
	whyOther   = "other"   // "plug release" took it away
	whyDied    = "died"    // the guard is dead; its parent let go
)

// Guard is the child process: it carries out what the orders on in say, and
// lets go when they stop coming. arg is what the parent added to GuardCommand.
// It returns when in ends, when ctx ends, or after a minute without work.
//
//	           hold                      release, bound, silence,
//	idle ───────────────────► holding ─────────────────────────────► idle
//	                             │        end of input, signal
//	                             └ every 100 ms: choose SYNs for 500 ms more
func Guard(ctx context.Context, in io.Reader, out io.Writer, arg string) error {
	var o Options
	if err := json.Unmarshal([]byte(arg), &o); err != nil {
		return fmt.Errorf("read the guard's options: %w", err)
	}
	m, err := newDriver(o.withDefaults())
	if err != nil {
		return err
	}
	w := &guard{m: m, bound: o.Hold, lock: lock, out: json.NewEncoder(out)}
	// A dead parent reads no more; that must not kill us before we are done.
	signal.Ignore(syscall.SIGPIPE)
	err = w.run(ctx, in)
	return errors.Join(err, m.close())
}

type guard struct {
	m     driver
	bound time.Duration
	lock  func(context.Context, string) (func() error, error)
	out   *json.Encoder

	answer int          // the order being carried out; 0 for none
	begun  time.Time    // what heard counts from: no clock that somebody sets
	heard  atomic.Int64 // when the parent was heard last, in nanoseconds
	unlock func() error // not nil while holding
	since  time.Time
	over   *time.Timer // fires when the bound of a hold is reached
}

func (g *guard) run(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.begun = time.Now()
	gone := make(chan struct{})
	orders := make(chan order, 16)
	// This goroutine ends with the process at the latest: a pipe cannot be read
	// with a context.
	go func() {
		defer close(gone)
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			var o order
			if json.Unmarshal(lines.Bytes(), &o) != nil {
				return
			}
			g.hear()
			if o.Do == "beat" {
				continue
			}
			select {
			case orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()

	g.over = time.NewTimer(g.bound)
	defer g.over.Stop()
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	idle := time.NewTimer(guardIdle)
	defer idle.Stop()
	for {
		// What can happen: an order; time to renew the choice, or to see that the
		// hold has taken too long; the parent is gone; we are told to stop; nothing for long.
		select {
		case o := <-orders:
			idle.Reset(guardIdle)
			g.answer = o.N
			switch o.Do {
			case "hold":
				g.hold(ctx, o.Wait, gone)
			case "release":
				g.release(whyAsked)
			}
			g.answer = 0
		case <-renew.C:
			g.watch()
		case <-g.over.C:
			g.watch()
		case <-gone:
			g.release(whyGone)
			return nil
		case <-ctx.Done():
			g.release(whyStopped)
			return nil
		case <-idle.C:
			if g.unlock == nil {
				return nil
			}
		}
	}
}

// hold waits for its turn and closes the plug.
func (g *guard) hold(ctx context.Context, wait time.Duration, gone <-chan struct{}) {
	if g.unlock != nil {
		g.say(report{Event: "error", Why: "already holding"})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	unlock, err := g.lock(ctx, "holds new connections")
	if err != nil {
		g.say(report{Event: "error", Why: err.Error(), Locked: errors.Is(err, ErrLocked)})
		return
	}
	g.since = time.Now()
	g.hear() // it says nothing while it waits for its turn
	g.over.Reset(g.bound)
	if err := g.m.hold(min(selected, g.bound+renewEvery)); err != nil {
		r := report{Event: "error", Why: errors.Join(err, unlock()).Error()}
		if unsupported, ok := errors.AsType[*UnsupportedError](err); ok {
			r.Hint = unsupported.Hint
		}
		g.say(r)
		return
	}
	g.unlock = unlock
	g.say(report{Event: "held"})
}

// hear notes that the parent is alive.
func (g *guard) hear() { g.heard.Store(int64(time.Since(g.begun))) }

// watch lets go if the parent is silent or too slow, and otherwise goes on
// choosing, never much past the bound: should the guard be killed too, the
// choice expires.
func (g *guard) watch() {
	if g.unlock == nil {
		return
	}
	left := g.bound - time.Since(g.since)
	switch {
	case left <= 0:
		g.release(whyBound)
	case time.Since(g.begun)-time.Duration(g.heard.Load()) > silence:
		g.release(whySilent)
	default:
		if err := g.m.renew(min(selected, left+renewEvery)); err != nil {
			g.release(whyOther)
		}
	}
}

func (g *guard) release(why string) {
	if g.unlock == nil {
		if why == whyAsked {
			g.say(report{Event: "released", Why: why})
		}
		return
	}
	waited, err := g.m.release()
	for try := 0; err != nil && try < 3; try++ {
		_, err = g.m.release()
	}
	r := report{Event: "released", Why: why, Waited: waited, Held: time.Since(g.since)}
	if err != nil {
		r.Event, r.Why = "error", err.Error()
	}
	g.say(r)
	// The parent need not wait for this.
	_ = errors.Join(g.m.finish(), g.unlock())
	g.unlock = nil
}

// say reports to the parent. A parent that does not read is about to be
// noticed by other means.
func (g *guard) say(r report) {
	r.N = g.answer
	_ = g.out.Encode(r)
}
