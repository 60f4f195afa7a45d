package plug

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// nfqueue holds SYNs in a netfilter queue. What it sets up is an empty chain;
// the rule that sends SYNs to the queue exists only during a reload. The rule
// lets packets pass when nobody listens, the queue when it is full, and the set
// element that chooses the packets expires.
//
// The chain sits in the input hook, where every SYN to this machine comes by
// once, be it from a local process, a container or another host.
type nfqueue struct {
	o      Options
	sel    *selector
	q      *queue // nil until the first hold
	compat bool   // use iptables' target
}

func newNFQueue(o Options, table string) *nfqueue {
	family := nftables.TableFamilyIPv4
	if o.Address.Is6() {
		family = nftables.TableFamilyIPv6
	}
	return &nfqueue{o: o, sel: newSelector(family, table, o.Address)}
}

var inputHook = hook{name: "input"}

// setup makes the chain, and finds out whether the rule and the queue would
// work.
func (n *nfqueue) setup() error {
	if n.check() == nil {
		return nil
	}
	if err := n.sel.install([]hook{inputHook}, nil, ""); err != nil {
		return n.explain(err)
	}
	err := n.hold(selected)
	_, release := n.release()
	if err = errors.Join(err, release, n.finish()); err != nil {
		return errors.Join(err, n.sel.remove())
	}
	return nil
}

func (n *nfqueue) check() error {
	have, err := n.sel.chains()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSetUp, n.explain(err))
	}
	if !slices.Equal(have, []string{inputHook.name}) {
		return fmt.Errorf("%w: the nftables table %s has the chains %q, want %q", ErrNotSetUp, n.sel.table.Name, have, inputHook.name)
	}
	return nil
}

func (n *nfqueue) clear() error { return n.sel.remove() }

// hold listens before it sends anything to the queue: the other way round, the
// first SYNs would pass.
func (n *nfqueue) hold(d time.Duration) error {
	if err := n.check(); err != nil {
		return &UnsupportedError{NFQueue, err.Error(), "paasta smartstack plug setup --protect nfqueue"}
	}
	if n.q == nil {
		q, err := openQueue(n.o.Queue, n.o.Limit)
		if err != nil {
			return n.explain(err)
		}
		n.q = q
	}
	n.q.keep()
	if err := n.arm(d); err != nil {
		_, release := n.release()
		return errors.Join(n.explain(err), release, n.finish())
	}
	return nil
}

// arm adds the rule, by whichever statement the kernel has.
func (n *nfqueue) arm(d time.Duration) error {
	match := synsTo(n.o.Address)
	if !n.compat {
		err := n.sel.arm(inputHook, append(match, queueTo(n.o.Queue)), d)
		if err == nil || !isMissing(err) {
			return err
		}
	}
	if err := n.sel.arm(inputHook, append(match, queueToCompat(n.o.Queue)), d); err != nil {
		return err
	}
	n.compat = true
	return nil
}

func (n *nfqueue) renew(d time.Duration) error {
	chosen, err := n.sel.chosen()
	if err == nil && !chosen {
		return errReleasedByOther
	}
	return errors.Join(err, n.sel.choose(d))
}

// release first takes the rule away, so that nothing comes after what is let
// go. The queue stays open until finish: a packet that passed the rule just
// before is accepted when it arrives.
func (n *nfqueue) release() (int, error) {
	err := n.sel.disarm(inputHook)
	if n.q == nil {
		return 0, err
	}
	waited, accept := n.q.letGo()
	return waited, errors.Join(err, accept)
}

// finish gives the queue back, so that another process can have it.
func (n *nfqueue) finish() error {
	if n.q == nil {
		return nil
	}
	err := n.q.close()
	n.q = nil
	return err
}

func (n *nfqueue) status() (Status, error) {
	chosen, err := n.sel.chosen()
	if err != nil {
		return Status{}, n.explain(err)
	}
	s := Status{Holding: chosen}
	waiting, dropped, err := queueCounts(n.o.Queue)
	s.Waiting, s.Dropped = waiting, dropped
	return s, err
}

func (n *nfqueue) close() error {
	if n.q == nil {
		return nil
	}
	_, err := n.release()
	return errors.Join(err, n.finish())
}

func (n *nfqueue) explain(err error) error {
	return explain(NFQueue, err, "no NFQUEUE (modules nfnetlink_queue and nft_queue or xt_NFQUEUE)",
		"modprobe nfnetlink_queue, or --protect none: listening sockets are still passed on")
}

// explain turns what the kernel says when it lacks a part, or when we lack the
// right, into an error that names what to do.
func explain(method Method, err error, missing, hint string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return &UnsupportedError{method, fmt.Sprintf("%v: it takes root, or the capability NET_ADMIN", err), "run it as root (sudo paasta smartstack plug …)"}
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT):
		return &UnsupportedError{method, fmt.Sprintf("%v: this kernel has %s", err, missing), hint}
	}
	return err
}
