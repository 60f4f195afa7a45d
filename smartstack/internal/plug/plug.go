// Package plug holds new connections to the proxy's address while HAProxy
// reloads, so that no SYN meets a listening socket that is about to close. It
// is used by the reload half of the agent and by "paasta smartstack plug".
//
// Two methods hold. "qdisc" sends SYNs, where they come in (on lo and on the
// named bridges), through an ifb device whose queue can be plugged. "nfqueue"
// lets them wait in a netfilter queue of this machine, wherever they come from.
// Both choose their packets by an element in an nftables set that expires by
// itself, and both are carried out by a guard: a child process in a session of
// its own, which lets go when its parent is silent, dead or too slow. Whatever
// is killed, a new connection is through within a second and a half.
//
// The package does nothing about established connections, and knows nothing
// about HAProxy. It is the only user of netlink and nftables here.
package plug

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// A Method is how new connections are held.
type Method string

// The methods. Auto is the first of Qdisc, NFQueue and None that this kernel has.
const (
	Auto    Method = "auto"
	Qdisc   Method = "qdisc"
	NFQueue Method = "nfqueue"
	None    Method = "none"
)

// Methods lists them all, in the order in which help texts name them.
var Methods = []Method{Qdisc, NFQueue, None, Auto}

// DefaultAddress is where clients find the proxy unless a config says otherwise.
var DefaultAddress = netip.MustParseAddr("169.254.255.254")

const (
	// selected is how long the kernel goes on choosing SYNs when nobody renews
	// the choice any more.
	selected = 500 * time.Millisecond
	// renewEvery is how often the guard renews it, and how often its parent has
	// to say that it is alive.
	renewEvery = 100 * time.Millisecond
	// silence is after how long without such a word the guard lets go.
	silence = 500 * time.Millisecond

	defaultHold  = 2 * time.Second
	defaultLimit = 65536
)

// Options say what is held, how, and for how long. The zero value of a field
// is its default. Their JSON is the argument of the guard.
type Options struct {
	Protect Method        // default Auto
	Address netip.Addr    // whose new connections wait; default 169.254.255.254
	Hold    time.Duration // the longest that they wait, whatever happens; default 2 s
	// Limit is how many SYNs may wait at once; those beyond it are not held.
	// Default 65536.
	Limit int
	// Interfaces are where the qdisc method catches SYNs that come in; default
	// lo alone. Name a bridge to cover its containers. The nfqueue method needs
	// no list: it sees whatever is delivered to this machine.
	Interfaces []string
	// Queue is the number of the netfilter queue; default 20257.
	Queue uint16
	// GuardCommand starts a guard when one more argument is added to it, such as
	// OwnGuard; without one Hold is an error.
	GuardCommand []string `json:"-"`
	// Log hears of what nobody asked for, such as a hold that ended by itself.
	Log *slog.Logger `json:"-"`
}

func (o Options) withDefaults() Options {
	if o.Protect == "" {
		o.Protect = Auto
	}
	if !o.Address.IsValid() {
		o.Address = DefaultAddress
	}
	if o.Hold == 0 {
		o.Hold = defaultHold
	}
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if len(o.Interfaces) == 0 {
		o.Interfaces = []string{"lo"}
	}
	if o.Queue == 0 {
		o.Queue = 20257
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// OwnGuard is the guard of the paasta binary that runs.
func OwnGuard() []string { return []string{"/proc/self/exe", "smartstack", "plug", "guard"} }

func (o Options) validate() error {
	var errs []error
	if !slices.Contains(Methods, o.Protect) {
		errs = append(errs, fmt.Errorf("unknown method %q (known: qdisc, nfqueue, none, auto)", o.Protect))
	}
	if o.Hold < 0 || o.Hold > time.Minute {
		errs = append(errs, fmt.Errorf("hold for %s: want more than 0 and at most 1m", o.Hold))
	}
	if o.Limit < 0 || o.Limit > 1<<20 {
		errs = append(errs, fmt.Errorf("limit of %d SYNs: want 1 to %d", o.Limit, 1<<20))
	}
	return errors.Join(errs...)
}

// UnsupportedError says that this machine cannot do what was asked, why, and
// what would help.
type UnsupportedError struct {
	Protect Method
	Missing string // what is missing, e.g. "no plug qdisc (module sch_plug)"
	Hint    string // what to do next, a command or a sentence
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s protection does not work here: %s", e.Protect, e.Missing)
}

// ErrNotSetUp is what Check wraps when nothing is there or something differs.
var ErrNotSetUp = errors.New("the plug is not set up")

// ErrForeign says that something of somebody else's is where ours would go.
var ErrForeign = errors.New("belongs to somebody else")

// ErrLocked says that another run holds or changes the plug.
var ErrLocked = errors.New("another run has the plug")

// Status is what the kernel says about a plug. It is printed as JSON, so its
// keys are part of our interface.
type Status struct {
	Protect    Method   `json:"protect"` // the method in use, never auto
	Address    string   `json:"address"`
	Interfaces []string `json:"interfaces,omitempty"` // qdisc only
	SetUp      bool     `json:"set_up"`
	Problem    string   `json:"problem,omitempty"` // why SetUp is false
	Holding    bool     `json:"holding"`           // new SYNs are being chosen now
	Waiting    int      `json:"waiting"`           // SYNs that wait now
	Passed     uint64   `json:"passed"`            // SYNs that have waited and gone on
	Dropped    uint64   `json:"dropped"`           // SYNs that were lost in the queue
	// Foreign lists queueing disciplines of others on the interfaces. We leave
	// them alone; they are listed for whoever wonders.
	Foreign []string `json:"foreign,omitempty"`
}

// driver carries out a method, in the guard. Implementations are
// used by one goroutine at a time.
type driver interface {
	setup() error
	check() error // wraps ErrNotSetUp
	clear() error
	// hold begins to choose SYNs, for d unless renewed.
	hold(d time.Duration) error
	renew(d time.Duration) error
	// release stops choosing and lets go of what waits. It returns how many did.
	// Releasing what is not held is no error.
	release() (int, error)
	// finish ends a hold that was released: then it is another process's turn.
	finish() error
	status() (Status, error)
	close() error
}

// A Plug holds new connections and lets them go. Its methods may be called by
// several goroutines.
type Plug struct {
	o Options
	m driver // nil for None
	h *holder
}

// New returns a plug. With Auto it tries out, in a scratch network namespace,
// what the kernel has, which takes some tens of milliseconds and changes
// nothing; any other method is taken at its word until Setup or Check.
func New(o Options) (*Plug, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Protect == Auto {
		o.Protect = choose(o)
	}
	p := &Plug{o: o}
	if o.Protect == None {
		return p, nil
	}
	m, err := newDriver(o)
	if err != nil {
		return nil, err
	}
	p.m = m
	p.h = newHolder(o)
	return p, nil
}

// choose returns the first method that this kernel has, and says in the log why
// the others were passed over.
func choose(o Options) Method {
	for _, method := range []Method{Qdisc, NFQueue} {
		err := Probe(method)
		if err == nil {
			return method
		}
		o.Log.Info("plug method passed over", "protect", string(method), "why", err.Error())
	}
	return None
}

// Name returns the method that is used: Qdisc, NFQueue or None.
func (p *Plug) Name() Method { return p.o.Protect }

// Setup makes what holding needs, once: what is there already and right stays.
// It also lets go of whatever a dead process may have left held. It refuses,
// with ErrForeign, to touch what is not ours.
func (p *Plug) Setup(ctx context.Context) error {
	return p.locked(ctx, func() error {
		if err := p.m.setup(); err != nil {
			return fmt.Errorf("set up the plug: %w", err)
		}
		_, err := p.m.release()
		return err
	})
}

// Check returns nil if Hold will work, and an error that wraps ErrNotSetUp and
// says what is wrong if Setup has to run first.
func (p *Plug) Check(context.Context) error {
	if p.m == nil {
		return nil
	}
	return p.m.check()
}

// Status reads the plug's state and counters from the kernel.
func (p *Plug) Status(context.Context) (Status, error) {
	if p.m == nil {
		return Status{Protect: None, Address: p.o.Address.String(), SetUp: true}, nil
	}
	s, err := p.m.status()
	if err != nil {
		return Status{}, fmt.Errorf("read the plug's state: %w", err)
	}
	s.Protect, s.Address = p.o.Protect, p.o.Address.String()
	if err := p.m.check(); err != nil {
		s.Problem = err.Error()
	} else {
		s.SetUp = true
	}
	return s, nil
}

// Hold makes new connections to the address wait, until Release, or until the
// bound in Options has passed. It waits its turn, as long as ctx allows, while
// another process holds.
func (p *Plug) Hold(ctx context.Context) error {
	if p.m == nil {
		return nil
	}
	return p.h.hold(ctx)
}

// Release lets the held connections go, in the order in which they came. It is
// no error when they have gone already.
func (p *Plug) Release(ctx context.Context) error {
	if p.m == nil {
		return nil
	}
	return p.h.release(ctx)
}

// ReleaseAll lets go of whatever any process holds, without waiting for its
// turn: for a person who wants connections back now.
func (p *Plug) ReleaseAll(context.Context) error {
	if p.m == nil {
		return nil
	}
	_, err := p.m.release()
	return err
}

// Clear removes what Setup made. Nothing else was touched, so the machine is
// as it was before.
func (p *Plug) Clear(ctx context.Context) error {
	return p.locked(ctx, func() error {
		if err := p.m.clear(); err != nil {
			return fmt.Errorf("clear the plug: %w", err)
		}
		return nil
	})
}

// Holds says what has become of the holds so far.
func (p *Plug) Holds() Holds {
	if p.h == nil {
		return Holds{}
	}
	return p.h.counts()
}

// Close lets go and ends the guard. The plug stays set up.
func (p *Plug) Close() error {
	if p.m == nil {
		return nil
	}
	return errors.Join(p.h.close(), p.m.close())
}

// locked runs do while no other process holds or changes the plug.
func (p *Plug) locked(ctx context.Context, do func() error) error {
	if p.m == nil {
		return nil
	}
	unlock, err := lock(ctx, "set up or clear")
	if err != nil {
		return err
	}
	return errors.Join(do(), unlock())
}
