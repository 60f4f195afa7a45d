package plug

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linux is the real kernel, by netlink. No program is run.
type linux struct{}

func (linux) device(name string) (device, bool, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return device{}, false, nil
	}
	if err != nil {
		return device{}, false, fmt.Errorf("find device %s: %w", name, err)
	}
	a := link.Attrs()
	return device{index: a.Index, name: a.Name, kind: link.Type(), up: a.RawFlags&unix.IFF_UP != 0}, true, nil
}

func (k linux) addIFB(name string) (device, error) {
	a := netlink.NewLinkAttrs()
	a.Name = name
	a.TxQLen = 1000
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: a}); err != nil && !errors.Is(err, unix.EEXIST) {
		return device{}, err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return device{}, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return device{}, fmt.Errorf("bring %s up: %w", name, err)
	}
	d, _, err := k.device(name)
	return d, err
}

func (linux) delDevice(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("delete device %s: %w", name, err)
	}
	return nil
}

func (linux) disciplines(d device) ([]discipline, error) {
	all, err := netlink.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: d.index, Name: d.name}})
	if err != nil {
		return nil, fmt.Errorf("list the queueing disciplines of %s: %w", d.name, err)
	}
	var list []discipline
	for _, one := range all {
		a := one.Attrs()
		x := discipline{kind: one.Type(), root: a.Parent == netlink.HANDLE_ROOT, handle: a.Handle}
		if s := a.Statistics; s != nil {
			if s.Basic != nil {
				x.passed = uint64(s.Basic.Packets)
			}
			if s.Queue != nil {
				x.waiting, x.dropped = int(s.Queue.Qlen), uint64(s.Queue.Drops)
			}
		}
		list = append(list, x)
	}
	return list, nil
}

var plugHandle = netlink.MakeHandle(0x5047, 0)

// addPlug adds the qdisc without options, since any option at creation would
// leave it with a limit of zero bytes, and then opens it: a new plug is closed.
func (k linux) addPlug(d device) error {
	if err := k.send(d, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, nil); err != nil {
		return err
	}
	return k.plug(d, plugRelease)
}

func (k linux) setLimit(d device, bytes int) error {
	return k.send(d, 0, plugOption(binary.NativeEndian, plugSetLimit, bytes))
}

func (k linux) plug(d device, a plugAction) error {
	return k.send(d, 0, plugOption(binary.NativeEndian, a, 0))
}

// plugOption is the kernel's struct tc_plug_qopt, an int and a __u32 in host byte
// order. The limit is that of at most 1<<20 packets, which Options checks.
func plugOption(order binary.AppendByteOrder, a plugAction, limit int) []byte {
	b := order.AppendUint32(nil, uint32(a))
	return order.AppendUint32(b, uint32(limit))
}

// send makes or changes the plug at the root of d.
func (linux) send(d device, flags int, options []byte) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, flags|unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(d.index), Handle: plugHandle, Parent: netlink.HANDLE_ROOT})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(plugKind)))
	if options != nil {
		req.AddData(nl.NewRtAttr(nl.TCA_OPTIONS, bytes.Clone(options)))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (linux) install(s *selector, hooks []hook, r rule, note string) error {
	return s.install(hooks, r, note)
}
func (linux) remove(s *selector) error                  { return s.remove() }
func (linux) chains(s *selector) ([]string, error)      { return s.chains() }
func (linux) choose(s *selector, d time.Duration) error { return s.choose(d) }
func (linux) forget(s *selector) error                  { return s.forget() }
func (linux) chosen(s *selector) (bool, error)          { return s.chosen() }

// LoopbackUp brings lo up in a network namespace that is new.
func LoopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
