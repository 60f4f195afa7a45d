package plug

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

const ifbName = "paastaplug"

// sizeOfSYN is what a held packet may take of the queue's limit, which the
// kernel counts in bytes. A SYN has 74; one with data (TCP Fast Open) up to a
// segment.
const sizeOfSYN = 1514

// qdisc holds SYNs in a plug queueing discipline. The discipline is the root of
// an ifb device of our own; an nftables chain at the ingress of lo and of the
// named interfaces forwards chosen SYNs to it, and the ifb hands them back to
// the interface where they came in. Nothing is added to the interfaces' own
// queueing disciplines, so there is nothing of others to break and nothing to
// restore; and while no address is chosen, no packet meets the ifb.
type qdisc struct {
	o   Options
	ifb string
	sel *selector
	k   kernel
}

// kernel is what qdisc asks of the kernel. Its fake, in the tests, keeps the
// same state and prints it.
type kernel interface {
	// device finds a device by name; kind is "ifb", "bridge", …; ok is false
	// when there is none.
	device(name string) (d device, ok bool, err error)
	addIFB(name string) (device, error) // and brings it up
	delDevice(name string) error
	disciplines(d device) ([]discipline, error)
	addPlug(d device) error // as the root, released
	setLimit(d device, bytes int) error
	plug(d device, a plugAction) error

	install(s *selector, hooks []hook, r rule, note string) error
	remove(s *selector) error
	chains(s *selector) ([]string, error)
	choose(s *selector, d time.Duration) error
	forget(s *selector) error
	chosen(s *selector) (bool, error)
}

type device struct {
	index int
	name  string
	kind  string
	up    bool
}

// discipline is one queueing discipline of a device.
type discipline struct {
	kind    string
	root    bool
	handle  uint32 // 0 for the kernel's own default ones
	waiting int
	passed  uint64
	dropped uint64
}

// plugAction is the action of the kernel's struct tc_plug_qopt.
type plugAction int32

const (
	plugBuffer    plugAction = 0
	plugRelease   plugAction = 2 // release everything, and pass on until the next buffer
	plugSetLimit  plugAction = 3
	plugKind                 = "plug"
	defaultQdiscs            = "noqueue pfifo_fast fq_codel fq pfifo mq"
)

func newQdisc(o Options, table, ifb string, k kernel) *qdisc {
	return &qdisc{o: o, ifb: ifb, sel: newSelector(nftables.TableFamilyNetdev, table, o.Address), k: k}
}

// find returns our ifb and its plug, if they are there and ours.
func (q *qdisc) find() (d device, root discipline, ok bool, err error) {
	d, ok, err = q.k.device(q.ifb)
	if err != nil || !ok {
		return d, root, false, err
	}
	if d.kind != "ifb" {
		return d, root, false, fmt.Errorf("device %s is a %s and not our ifb: %w", d.name, d.kind, ErrForeign)
	}
	all, err := q.k.disciplines(d)
	if err != nil {
		return d, root, false, err
	}
	for _, one := range all {
		if one.root {
			root = one
		}
	}
	return d, root, true, nil
}

func (q *qdisc) setup() error {
	for _, name := range q.o.Interfaces {
		if _, ok, err := q.k.device(name); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("there is no interface %q to hold connections on", name))
		}
	}
	d, root, ok, err := q.find()
	if err != nil {
		return q.explain(err)
	}
	if !ok {
		if d, err = q.k.addIFB(q.ifb); err != nil {
			return q.explain(fmt.Errorf("add the ifb device %s: %w", q.ifb, err))
		}
	}
	fresh := !ok
	switch {
	case root.kind == plugKind:
	case root.handle != 0 || !strings.Contains(" "+defaultQdiscs+" ", " "+root.kind+" ") && root.kind != "":
		return fmt.Errorf("the queueing discipline %s of device %s: %w", root.kind, q.ifb, ErrForeign)
	default:
		if err := q.k.addPlug(d); err != nil {
			if fresh {
				err = errors.Join(err, q.k.delDevice(q.ifb))
			}
			return q.explain(fmt.Errorf("add a plug qdisc: %w", err))
		}
	}
	if !d.up {
		if _, err := q.k.addIFB(q.ifb); err != nil {
			return q.explain(err)
		}
	}
	if same, _, err := q.installed(d); same || err != nil {
		return q.explain(err)
	}
	if err := q.k.setLimit(d, q.o.Limit*sizeOfSYN); err != nil {
		return q.explain(fmt.Errorf("set the plug's limit: %w", err))
	}
	r, err := q.rule(d)
	if err != nil {
		return err
	}
	if err := q.k.install(q.sel, q.hooks(), r, q.note(d)); err != nil {
		return q.explain(errors.Join(err, q.clear()))
	}
	return nil
}

// rule forwards chosen SYNs to the ifb, at no more than a rate that cannot fill
// its queue in the longest hold: a full plug drops, and those beyond the rate
// are not held at all.
func (q *qdisc) rule(d device) (rule, error) {
	burst, rate := q.burst()
	match, err := encode(q.sel.table.Family, append(synsTo(q.o.Address), &expr.Limit{
		Type: expr.LimitTypePkts, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Burst: uint32(burst),
	})...)
	if err != nil {
		return nil, err
	}
	fwd, err := forward(d.index)
	return slices.Concat(match, fwd), err
}

func (q *qdisc) burst() (burst, rate int) {
	burst = max(q.o.Limit/2, 1)
	return burst, max(int(float64(q.o.Limit-burst)/q.o.Hold.Seconds()), 1)
}

// note says, as the name of a chain, what the rule was made with; when it
// differs from what it should be now, the rule is made anew.
func (q *qdisc) note(d device) string {
	burst, rate := q.burst()
	return fmt.Sprintf("holds_%s_device_%d_burst_%d_rate_%d", strings.ReplaceAll(q.o.Address.String(), ":", "_"), d.index, burst, rate)
}

// installed says whether the chains are there and as they should be; why says
// what is different.
func (q *qdisc) installed(d device) (ok bool, why string, err error) {
	have, err := q.k.chains(q.sel)
	want := q.chainNames(d)
	why = fmt.Sprintf("the nftables table %s has the chains %q, want %q", q.sel.table.Name, have, want)
	return err == nil && slices.Equal(have, want), why, err
}

func (q *qdisc) hooks() []hook {
	var hooks []hook
	for _, name := range q.o.Interfaces {
		hooks = append(hooks, hook{name: "from_" + name, device: name})
	}
	return hooks
}

func (q *qdisc) chainNames(d device) []string {
	names := []string{q.note(d)}
	for _, h := range q.hooks() {
		names = append(names, h.name)
	}
	slices.Sort(names)
	return names
}

func (q *qdisc) check() error {
	d, root, ok, err := q.find()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSetUp, q.explain(err))
	}
	if !ok {
		return fmt.Errorf("%w: there is no device %s", ErrNotSetUp, q.ifb)
	}
	if root.kind != plugKind {
		return fmt.Errorf("%w: device %s has the queueing discipline %q and not a plug", ErrNotSetUp, q.ifb, root.kind)
	}
	if !d.up {
		return fmt.Errorf("%w: device %s is down", ErrNotSetUp, q.ifb)
	}
	same, why, err := q.installed(d)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSetUp, q.explain(err))
	}
	if !same {
		return fmt.Errorf("%w: %s", ErrNotSetUp, why)
	}
	return nil
}

// clear takes the chains away first, so that no packet is sent to a device that
// is not there, and lets go of what waits before its queue vanishes.
func (q *qdisc) clear() error {
	_, err := q.release()
	err = errors.Join(err, q.k.remove(q.sel))
	_, _, ok, find := q.find()
	if find != nil {
		return errors.Join(err, find) // it is not ours
	}
	if ok {
		err = errors.Join(err, q.k.delDevice(q.ifb))
	}
	return err
}

// hold closes the plug before it sends anything there: the other way round,
// the first SYNs would pass.
func (q *qdisc) hold(d time.Duration) error {
	ifb, root, ok, err := q.find()
	if err != nil {
		return err
	}
	if !ok || root.kind != plugKind {
		return &UnsupportedError{Qdisc, "the plug is not set up", "paasta smartstack plug setup --protect qdisc"}
	}
	if err := q.k.plug(ifb, plugBuffer); err != nil {
		return fmt.Errorf("close the plug: %w", err)
	}
	if err := q.k.choose(q.sel, d); err != nil {
		_, release := q.release()
		return errors.Join(err, release)
	}
	return nil
}

func (q *qdisc) renew(d time.Duration) error {
	chosen, err := q.k.chosen(q.sel)
	if err == nil && !chosen {
		return errReleasedByOther
	}
	return errors.Join(err, q.k.choose(q.sel, d))
}

// release stops sending packets to the plug and then opens it: the other way
// round, it would still be a detour.
func (q *qdisc) release() (int, error) {
	forget := q.k.forget(q.sel)
	ifb, root, ok, err := q.find()
	if err != nil || !ok || root.kind != plugKind {
		return 0, errors.Join(forget, err)
	}
	if err := q.k.plug(ifb, plugRelease); err != nil {
		return 0, errors.Join(forget, fmt.Errorf("open the plug: %w", err))
	}
	return root.waiting, forget
}

func (q *qdisc) status() (Status, error) {
	s := Status{Interfaces: q.o.Interfaces}
	_, root, ok, err := q.find()
	if err != nil && !errors.Is(err, ErrForeign) {
		return s, q.explain(err)
	}
	if ok && root.kind == plugKind {
		s.Waiting, s.Passed, s.Dropped = root.waiting, root.passed, root.dropped
		if s.Holding, err = q.k.chosen(q.sel); err != nil {
			return s, q.explain(err)
		}
	}
	for _, name := range q.o.Interfaces {
		d, ok, err := q.k.device(name)
		if err != nil || !ok {
			continue // check says so
		}
		all, err := q.k.disciplines(d)
		if err != nil {
			return s, q.explain(err)
		}
		for _, one := range all {
			if one.handle != 0 {
				s.Foreign = append(s.Foreign, fmt.Sprintf("%s: %s", name, one.kind))
			}
		}
	}
	return s, nil
}

func (q *qdisc) finish() error { return nil }

func (q *qdisc) close() error { return nil }

func (q *qdisc) explain(err error) error {
	return explain(Qdisc, err, "no plug qdisc, ifb or nftables ingress (modules sch_plug, ifb, nft_fwd_netdev)",
		"modprobe sch_plug, or --protect nfqueue, or --protect auto for what this kernel has")
}
