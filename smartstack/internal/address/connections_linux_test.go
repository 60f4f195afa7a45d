package address

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

func TestConnections(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string][2]string{ // where to listen, and the host that clients name
		"IPv4":                     {"127.0.0.1:0", "127.0.0.1"},
		"IPv6":                     {"[::1]:0", "::1"},
		"IPv4 to a socket of both": {":0", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", listen[0])
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			task := netip.AddrPortFrom(netip.MustParseAddr(listen[1]), netip.MustParseAddrPort(l.Addr().String()).Port())
			want := func(want int) {
				t.Helper()
				if n, err := Connections(task); err != nil || n != want {
					t.Errorf("%d connections, %v, want %d", n, err, want)
				}
			}
			want(0)
			for range 3 {
				c, err := net.Dial("tcp", task.String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				s, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
			}
			want(3)
		})
	}
}

func TestCountTracked(t *testing.T) {
	t.Parallel()
	flow := func(from, to string, port uint16, info netlink.ProtoInfo) *netlink.ConntrackFlow {
		return &netlink.ConntrackFlow{Forward: netlink.IPTuple{SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to), DstPort: port}, ProtoInfo: info}
	}
	established := &netlink.ProtoInfoTCP{State: nl.TCP_CONNTRACK_ESTABLISHED}
	flows := []*netlink.ConntrackFlow{
		flow("10.9.0.7", "10.77.1.1", 31005, established), // the one that counts
		flow("10.77.1.1", "10.77.1.1", 31005, established),
		flow("10.9.0.7", "10.77.1.1", 31005, &netlink.ProtoInfoTCP{State: nl.TCP_CONNTRACK_TIME_WAIT}),
		flow("10.77.1.1", "10.77.1.2", 31005, established),
		flow("10.9.0.7", "10.77.1.1", 31006, established),
		flow("10.0.0.1", "10.77.1.1", 31005, nil), // UDP
	}
	local := func(ip net.IP) bool { return ip.Equal(net.ParseIP("10.77.1.1")) }
	if n := countTracked(flows, netip.MustParseAddrPort("10.77.1.1:31005"), local); n != 1 {
		t.Errorf("%d, want 1", n)
	}
}
