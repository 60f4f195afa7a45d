package plug

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Holds counts what has become of a Plug's holds.
type Holds struct {
	Done   int           // holds that ended, for whatever reason
	Lapsed int           // of those, the ones that ended before Release asked
	Waited int           // SYNs that waited in them
	Total  time.Duration // how long they lasted together
	Last   time.Duration // the last one
	Max    time.Duration // the longest one
}

// Plus adds up two counts, of which m is the later one.
func (h Holds) Plus(m Holds) Holds {
	return Holds{
		Done: h.Done + m.Done, Lapsed: h.Lapsed + m.Lapsed, Waited: h.Waited + m.Waited,
		Total: h.Total + m.Total, Last: cmp.Or(m.Last, h.Last), Max: max(h.Max, m.Max),
	}
}

// answerWithin is how long a guard may take to answer. One that takes longer
// is frozen; it is killed and done without.
const answerWithin = time.Second

// startWithin is how long a new one may take, on a busy machine.
const startWithin = 5 * time.Second

// A holder is the parent's end of a guard. It starts one when it first needs
// it, and again when that one has ended.
type holder struct {
	o      Options
	rescue func() (waited int, err error) // lets go of what a dead guard held

	turn sync.Mutex // held during an exchange with the guard
	g    *guardProcess
	n    int // orders so far

	mu    sync.Mutex
	tally Holds
}

func newHolder(o Options) *holder {
	return &holder{o: o, rescue: func() (int, error) { return rescue(o) }}
}

// rescue lets go of what a guard held that is dead: its locks went with it,
// what waits in the kernel did not. When another run has the plug by now, its
// own release lets go of everything.
func rescue(o Options) (waited int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	unlock, err := lock(ctx, "lets go of what a dead guard held")
	if errors.Is(err, ErrLocked) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	m, err := newDriver(o)
	if err != nil {
		return 0, errors.Join(err, unlock())
	}
	waited, err = m.release()
	return waited, errors.Join(err, m.finish(), m.close(), unlock())
}

// guardProcess is a running guard.
type guardProcess struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports chan report   // closed when the guard has ended, and holds nothing
	lost    error         // once that is so: why what it held could not be let go
	quiet   chan struct{} // closed to stop the beats of the hold in progress; nil outside
	holding bool
}

func (h *holder) hold(ctx context.Context) error {
	h.turn.Lock()
	defer h.turn.Unlock()
	wait := 10 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	// A guard that ended because it was idle, just now, is replaced once.
	for try := range 2 {
		if h.g == nil {
			g, err := h.start()
			if err != nil {
				return fmt.Errorf("start the plug's guard: %w", err)
			}
			h.g = g
		}
		err := h.ask(ctx, order{Do: "hold", Wait: wait}, wait+startWithin)
		if errors.Is(err, errGuardGone) && try == 0 {
			h.drop()
			continue
		}
		if err != nil {
			return fmt.Errorf("hold new connections: %w", err)
		}
		h.g.holding = true
		h.g.quiet = make(chan struct{})
		go beat(h.g.in, h.g.quiet)
		return nil
	}
	return fmt.Errorf("hold new connections: %w", errGuardGone)
}

func (h *holder) release(context.Context) error {
	h.turn.Lock()
	defer h.turn.Unlock()
	if h.g == nil || !h.g.holding {
		return nil
	}
	h.g.holding = false
	close(h.g.quiet)
	err := h.ask(context.Background(), order{Do: "release"}, answerWithin)
	if err == nil {
		return nil
	}
	g := h.g
	if errors.Is(err, errGuardFrozen) {
		_ = g.cmd.Process.Kill() // it may have just ended
	}
	h.drop()
	lost := g.lost
	if !errors.Is(err, errGuardGone) && !errors.Is(err, errGuardFrozen) {
		_, lost = h.rescue() // it lives and could not
	}
	if lost != nil {
		return fmt.Errorf("release new connections: %w", errors.Join(err, lost))
	}
	h.o.Log.Warn("released without the guard", "err", err)
	return nil
}

func (h *holder) close() error {
	err := h.release(context.Background())
	h.turn.Lock()
	defer h.turn.Unlock()
	h.drop()
	return err
}

func (h *holder) counts() Holds {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tally
}

var (
	errGuardGone   = errors.New("the guard has ended")
	errGuardFrozen = errors.New("the guard does not answer")
)

// ask sends an order and waits for what it leads to.
func (h *holder) ask(ctx context.Context, o order, within time.Duration) error {
	h.n++
	o.N = h.n
	if err := json.NewEncoder(h.g.in).Encode(o); err != nil {
		return errGuardGone
	}
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		select {
		case r, ok := <-h.g.reports:
			switch {
			case !ok:
				return errGuardGone
			case r.N != o.N: // an answer to nobody; it has been counted
			case r.Event == "error" && r.Locked:
				return fmt.Errorf("%w: %s", ErrLocked, r.Why)
			case r.Event == "error" && r.Hint != "":
				return &UnsupportedError{h.o.Protect, r.Why, r.Hint}
			case r.Event == "error":
				return errors.New(r.Why)
			default:
				return nil
			}
		case <-late.C:
			return errGuardFrozen
		case <-ctx.Done():
			h.drop() // it may be about to hold
			return ctx.Err()
		}
	}
}

// start runs a guard in a session of its own, so that what kills us, or our
// process group, does not kill it.
func (h *holder) start() (*guardProcess, error) {
	if len(h.o.GuardCommand) == 0 {
		return nil, errors.New("there is no command that starts a guard")
	}
	arg, err := json.Marshal(h.o)
	if err != nil {
		return nil, err
	}
	args := append(append([]string{}, h.o.GuardCommand[1:]...), string(arg))
	cmd := exec.Command(h.o.GuardCommand[0], args...)
	cmd.SysProcAttr = ownSession()
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &guardProcess{cmd: cmd, in: in, reports: make(chan report, 16)}
	go h.listen(g, out)
	return g, nil
}

// listen reads a guard's reports until it ends, counts the holds, and says in
// the log which of them ended by themselves. A guard that dies while it holds
// leaves connections waiting that only we know of: they go on at once.
func (h *holder) listen(g *guardProcess, out io.Reader) {
	defer close(g.reports)
	var since time.Time // of the hold in progress
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			break
		}
		switch {
		case r.Event == "held":
			since = time.Now()
		case r.Held > 0:
			since = time.Time{}
			h.count(r)
		}
		select {
		case g.reports <- r:
		default: // nobody asks; it has been counted and logged
		}
	}
	if !since.IsZero() {
		var waited int
		waited, g.lost = h.rescue()
		h.count(report{Why: whyDied, Waited: waited, Held: time.Since(since)})
	}
	_ = g.cmd.Wait() // how it ended changes nothing
}

func (h *holder) count(r report) {
	h.mu.Lock()
	h.tally.Done++
	h.tally.Waited += r.Waited
	h.tally.Total += r.Held
	h.tally.Last = r.Held
	h.tally.Max = max(h.tally.Max, r.Held)
	if r.Why != whyAsked {
		h.tally.Lapsed++
	}
	h.mu.Unlock()
	switch r.Why {
	case whyAsked:
	case whyBound:
		h.o.Log.Warn("new connections were held for the longest time allowed and released; what they waited for is still going on",
			"held", r.Held, "waited", r.Waited, "bound", h.o.Hold)
	default:
		h.o.Log.Warn("new connections were released early", "why", r.Why, "held", r.Held, "waited", r.Waited)
	}
}

// drop ends the guard and forgets it. A live one sees its input end and lets
// go; a frozen one is killed.
func (h *holder) drop() {
	g := h.g
	if g == nil {
		return
	}
	h.g = nil
	if g.holding {
		g.holding = false
		close(g.quiet)
	}
	g.in.Close()
	kill := time.NewTimer(answerWithin)
	defer kill.Stop()
	for {
		select {
		case _, ok := <-g.reports:
			if !ok {
				return
			}
		case <-kill.C:
			_ = g.cmd.Process.Kill() // it may have just ended
			for range g.reports {
			}
			return
		}
	}
}

// beat says that we are alive until quiet is closed.
func beat(w io.Writer, quiet <-chan struct{}) {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		select {
		case <-quiet:
			return
		case <-t.C:
			if _, err := io.WriteString(w, `{"do":"beat"}`+"\n"); err != nil {
				return
			}
		}
	}
}
