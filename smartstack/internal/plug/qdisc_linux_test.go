package plug

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakeKernel understands what qdisc asks of a kernel, keeps the same state, and
// prints it as text. One call can be made to fail.
type fakeKernel struct {
	devices []*fakeDevice
	hooks   []string // chains, "" for no table
	held    time.Duration
	fails   string // the call that fails
}

type fakeDevice struct {
	device
	qdisc  string // kind of the root
	handle uint32
	closed bool
	limit  int
	extra  []discipline
}

func (k *fakeKernel) String() string {
	var b strings.Builder
	for _, d := range k.devices {
		fmt.Fprintf(&b, "%s %s", d.kind, d.name)
		if d.up {
			b.WriteString(" up")
		}
		fmt.Fprintf(&b, ", root %s", d.qdisc)
		if d.qdisc == plugKind {
			state := "open"
			if d.closed {
				state = "closed"
			}
			fmt.Fprintf(&b, " %s, limit %d", state, d.limit)
		}
		for _, x := range d.extra {
			fmt.Fprintf(&b, ", %s", x.kind)
		}
		b.WriteString("\n")
	}
	for _, h := range k.hooks {
		fmt.Fprintf(&b, "chain %s\n", h)
	}
	if k.held > 0 {
		fmt.Fprintf(&b, "chosen for %s\n", k.held)
	}
	return b.String()
}

var errFake = errors.New("does not work")

func (k *fakeKernel) fail(call string) error {
	if k.fails == call {
		return fmt.Errorf("%s %w", call, errFake)
	}
	return nil
}

func (k *fakeKernel) find(name string) *fakeDevice {
	for _, d := range k.devices {
		if d.name == name {
			return d
		}
	}
	return nil
}

func (k *fakeKernel) device(name string) (device, bool, error) {
	d := k.find(name)
	if d == nil {
		return device{}, false, k.fail("device")
	}
	return d.device, true, k.fail("device")
}

func (k *fakeKernel) addIFB(name string) (device, error) {
	if err := k.fail("add ifb"); err != nil {
		return device{}, err
	}
	d := k.find(name)
	if d == nil {
		d = &fakeDevice{device: device{index: 10 + len(k.devices), name: name, kind: "ifb"}, qdisc: "noqueue"}
		k.devices = append(k.devices, d)
	}
	d.up = true
	return d.device, nil
}

func (k *fakeKernel) delDevice(name string) error {
	k.devices = slices.DeleteFunc(k.devices, func(d *fakeDevice) bool { return d.name == name })
	return k.fail("delete device")
}

func (k *fakeKernel) disciplines(d device) ([]discipline, error) {
	f := k.find(d.name)
	return append([]discipline{{kind: f.qdisc, root: true, handle: f.handle}}, f.extra...), k.fail("disciplines")
}

func (k *fakeKernel) addPlug(d device) error {
	if err := k.fail("add plug"); err != nil {
		return err
	}
	f := k.find(d.name)
	f.qdisc, f.handle = plugKind, 1
	return nil
}

func (k *fakeKernel) setLimit(d device, bytes int) error {
	k.find(d.name).limit = bytes
	return k.fail("limit")
}

func (k *fakeKernel) plug(d device, a plugAction) error {
	if err := k.fail(map[plugAction]string{plugBuffer: "close", plugRelease: "open"}[a]); err != nil {
		return err
	}
	k.find(d.name).closed = a == plugBuffer
	return nil
}

func (k *fakeKernel) install(_ *selector, hooks []hook, _ rule, note string) error {
	k.hooks, k.held = []string{note}, 0
	for _, h := range hooks {
		k.hooks = append(k.hooks, h.name)
	}
	slices.Sort(k.hooks)
	return k.fail("install")
}

func (k *fakeKernel) remove(*selector) error {
	k.hooks, k.held = nil, 0
	return k.fail("remove")
}

func (k *fakeKernel) chains(*selector) ([]string, error) { return k.hooks, k.fail("chains") }

func (k *fakeKernel) choose(_ *selector, d time.Duration) error {
	if k.hooks == nil {
		return unix.ENOENT
	}
	if err := k.fail("choose"); err != nil {
		return err
	}
	k.held = d
	return nil
}

func (k *fakeKernel) forget(*selector) error {
	k.held = 0
	return k.fail("forget")
}

func (k *fakeKernel) chosen(*selector) (bool, error) { return k.held > 0, k.fail("chosen") }

// newFakeKernel is a host with lo and a bridge, on which somebody shapes.
func newFakeKernel() *fakeKernel {
	return &fakeKernel{devices: []*fakeDevice{
		{device: device{index: 1, name: "lo", kind: "device", up: true}, qdisc: "noqueue", extra: []discipline{{kind: "clsact", handle: 5}}},
		{device: device{index: 2, name: "br0", kind: "bridge", up: true}, qdisc: "tbf", handle: 7},
	}}
}

const (
	fakeHost = "device lo up, root noqueue, clsact\nbridge br0 up, root tbf\n"
	fakeSet  = fakeHost + "ifb paastaplug up, root plug open, limit 15140\n" +
		"chain from_br0\nchain from_lo\nchain holds_169.254.255.254_device_12_burst_5_rate_2\n"
)

func TestQdiscSteps(t *testing.T) {
	t.Parallel()
	setup := func(q *qdisc) error { return q.setup() }
	clear := func(q *qdisc) error { return q.clear() }
	hold := func(q *qdisc) error { return q.hold(selected) }
	release := func(q *qdisc) error { _, err := q.release(); return err }
	for name, tt := range map[string]struct {
		with  func(*fakeKernel) // what is there before
		fails string
		do    []func(*qdisc) error
		want  string // the state afterwards
		err   string // of the last step
	}{
		"setup adds an ifb with a plug and a chain an interface": {
			do: []func(*qdisc) error{setup}, want: fakeSet,
		},
		"setup twice is once": {
			do: []func(*qdisc) error{setup, setup}, want: fakeSet,
		},
		"clear takes away what setup made and nothing else": {
			do: []func(*qdisc) error{setup, clear}, want: fakeHost,
		},
		"clear of nothing is nothing": {
			do: []func(*qdisc) error{clear}, want: fakeHost,
		},
		"hold closes the plug and chooses": {
			do:   []func(*qdisc) error{setup, hold},
			want: strings.Replace(fakeSet, "open", "closed", 1) + "chosen for 500ms\n",
		},
		"release forgets and opens": {
			do: []func(*qdisc) error{setup, hold, release}, want: fakeSet,
		},
		"clear while it is held": {
			do: []func(*qdisc) error{setup, hold, clear}, want: fakeHost,
		},
		"hold without setup says so": {
			do: []func(*qdisc) error{hold}, want: fakeHost, err: "the plug is not set up",
		},
		"release without setup is no error": {
			do: []func(*qdisc) error{release}, want: fakeHost,
		},
		"a device of somebody else is refused": {
			with: func(k *fakeKernel) {
				k.devices = append(k.devices, &fakeDevice{device: device{name: ifbName, kind: "dummy"}, qdisc: "noqueue"})
			},
			do: []func(*qdisc) error{setup}, want: fakeHost + "dummy paastaplug, root noqueue\n", err: ErrForeign.Error(),
		},
		"and not cleared": {
			with: func(k *fakeKernel) {
				k.devices = append(k.devices, &fakeDevice{device: device{name: ifbName, kind: "dummy"}, qdisc: "noqueue"})
			},
			do: []func(*qdisc) error{clear}, want: fakeHost + "dummy paastaplug, root noqueue\n", err: ErrForeign.Error(),
		},
		"a qdisc of somebody else on our device is refused": {
			with: func(k *fakeKernel) {
				k.devices = append(k.devices, &fakeDevice{device: device{name: ifbName, kind: "ifb", up: true}, qdisc: "prio", handle: 9})
			},
			do: []func(*qdisc) error{setup}, want: fakeHost + "ifb paastaplug up, root prio\n", err: ErrForeign.Error(),
		},
		"a half set-up is completed": {
			with: func(k *fakeKernel) {
				k.devices = append(k.devices, &fakeDevice{device: device{index: 12, name: ifbName, kind: "ifb"}, qdisc: "pfifo_fast"})
			},
			do: []func(*qdisc) error{setup}, want: fakeSet,
		},
		"a rule for a device that is gone is made anew": {
			with: func(k *fakeKernel) {
				k.hooks = []string{"from_br0", "from_lo", "holds_169.254.255.254_device_3_burst_5_rate_2"}
			},
			do: []func(*qdisc) error{setup}, want: fakeSet,
		},
		"without a plug qdisc nothing stays": {
			fails: "add plug", do: []func(*qdisc) error{setup}, want: fakeHost, err: "add a plug qdisc: add plug does not work",
		},
		"without the chains nothing stays": {
			fails: "install", do: []func(*qdisc) error{setup}, want: fakeHost, err: "install does not work",
		},
		"a hold that cannot choose is open again": {
			fails: "choose", do: []func(*qdisc) error{setup, hold}, want: fakeSet, err: "choose does not work",
		},
		"a release that cannot forget opens all the same": {
			fails: "forget", do: []func(*qdisc) error{setup, hold, release}, want: fakeSet, err: "forget does not work",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newFakeKernel()
			if tt.with != nil {
				tt.with(k)
			}
			k.fails = tt.fails
			q := newQdisc(Options{Interfaces: []string{"lo", "br0"}, Limit: 10}.withDefaults(), tableName, ifbName, k)
			var err error
			for _, step := range tt.do {
				err = step(q)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("%v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, k.String()); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// Every state that setup does not leave is one that check complains about.
func TestQdiscCheck(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fakeKernel){
		"":                    func(*fakeKernel) {},
		"no device":           func(k *fakeKernel) { _ = k.delDevice(ifbName) },
		"is down":             func(k *fakeKernel) { k.find(ifbName).up = false },
		"and not a plug":      func(k *fakeKernel) { k.find(ifbName).qdisc = "pfifo" },
		"has the chains":      func(k *fakeKernel) { k.hooks = k.hooks[1:] },
		"and not our ifb":     func(k *fakeKernel) { k.find(ifbName).kind = "dummy" },
		"chains does not":     func(k *fakeKernel) { k.fails = "chains" },
		"disciplines does no": func(k *fakeKernel) { k.fails = "disciplines" },
	} {
		k := newFakeKernel()
		q := newQdisc(Options{}.withDefaults(), tableName, ifbName, k)
		if err := q.setup(); err != nil {
			t.Fatal(err)
		}
		spoil(k)
		err := q.check()
		if name == "" {
			if err != nil {
				t.Errorf("check after setup: %v", err)
			}
			continue
		}
		if !errors.Is(err, ErrNotSetUp) || !strings.Contains(err.Error(), name) {
			t.Errorf("check: %v, want ErrNotSetUp with %q", err, name)
		}
	}
}

// However large the limit and long the hold, what the rule lets into the plug
// fits into it, so that it never drops.
func TestQdiscNeverFills(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{2, 3, 8, 100, defaultLimit, 1 << 20} {
		for _, hold := range []time.Duration{time.Second, defaultHold, time.Minute} {
			q := newQdisc(Options{Limit: limit, Hold: hold}.withDefaults(), tableName, ifbName, nil)
			burst, rate := q.burst()
			// A rate is at least 1/s, which a small limit can feel.
			if most := burst + int(float64(rate)*hold.Seconds()); most > max(limit, burst+int(hold.Seconds())) {
				t.Errorf("limit %d, hold %s: %d SYNs may come", limit, hold, most)
			}
		}
	}
}
