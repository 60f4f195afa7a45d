package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Connections counts the established TCP connections to a task on this host.
// There are three places to look, and none sees all: the task's own sockets (not
// those in a container), the kernel's connection tracking (what Docker forwards
// to containers) for clients elsewhere, and the sockets of this host's clients,
// HAProxy among them. What is tracked of a client of this host does not count:
// there, a connection whose end the kernel did not recognize (a reset out of its
// window) stays established for days.
func Connections(task netip.AddrPort) (int, error) {
	var server, client int
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := dump(func() ([]*netlink.Socket, error) { return netlink.SocketDiagTCP(family) })
		if err != nil {
			return 0, fmt.Errorf("list TCP sockets: %w", err)
		}
		for _, s := range sockets {
			if s.State != netlink.TCP_ESTABLISHED {
				continue
			}
			if isAt(s.ID.Source, s.ID.SourcePort, task) {
				server++
			}
			if isAt(s.ID.Destination, s.ID.DestinationPort, task) {
				client++
			}
		}
	}
	family := netlink.InetFamily(unix.AF_INET)
	if task.Addr().Is6() {
		family = unix.AF_INET6
	}
	flows, err := dump(func() ([]*netlink.ConntrackFlow, error) {
		return netlink.ConntrackTableList(netlink.ConntrackTable, family)
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		err = nil // a kernel that tracks nothing, so nothing is forwarded
	}
	if err != nil {
		return 0, fmt.Errorf("list tracked connections: %w", err)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return 0, fmt.Errorf("list this host's addresses: %w", err)
	}
	tracked := countTracked(flows, task, func(ip net.IP) bool {
		return ip.IsLoopback() || slices.ContainsFunc(own, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		})
	})
	return max(server, client+tracked), nil
}

// dump asks again when the kernel's table changed under the answer.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range 5 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func isAt(ip net.IP, port uint16, task netip.AddrPort) bool {
	return port == task.Port() && ip.Equal(task.Addr().AsSlice())
}

// countTracked counts the established connections that clients elsewhere made to
// task, wherever they were forwarded.
func countTracked(flows []*netlink.ConntrackFlow, task netip.AddrPort, local func(net.IP) bool) (n int) {
	for _, f := range flows {
		tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP)
		if ok && tcp.State == nl.TCP_CONNTRACK_ESTABLISHED && isAt(f.Forward.DstIP, f.Forward.DstPort, task) && !local(f.Forward.SrcIP) {
			n++
		}
	}
	return n
}
