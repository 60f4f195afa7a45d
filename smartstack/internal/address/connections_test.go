package address

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	task := netip.MustParseAddrPort(l.Addr().String())
	want := func(want int) {
		t.Helper()
		if n, err := Connections(task); err != nil || n != want {
			t.Errorf("%d connections, %v, want %d", n, err, want)
		}
	}
	want(0)
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
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
}

func TestCountTracked(t *testing.T) {
	t.Parallel()
	const table = `ipv4     2 tcp      6 431999 ESTABLISHED src=10.77.1.1 dst=10.77.1.1 sport=40000 dport=31005 src=172.17.0.2 dst=172.17.0.1 sport=8080 dport=40000 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 110 TIME_WAIT src=10.77.1.1 dst=10.77.1.1 sport=40001 dport=31005 src=172.17.0.2 dst=172.17.0.1 sport=8080 dport=40001 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 431999 ESTABLISHED src=10.77.1.1 dst=10.77.1.2 sport=40002 dport=31005 src=172.17.0.3 dst=172.17.0.1 sport=8080 dport=40002 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 431999 ESTABLISHED src=10.9.0.7 dst=10.77.1.1 sport=40003 dport=31005 src=172.17.0.2 dst=10.9.0.7 sport=8080 dport=40003 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=10.0.0.1 dst=10.77.1.1 sport=53 dport=31005 [UNREPLIED] src=10.77.1.1 dst=10.0.0.1 sport=31005 dport=53 mark=0 zone=0 use=2
nonsense
`
	n, err := countTracked(strings.NewReader(table), netip.MustParseAddrPort("10.77.1.1:31005"), func(ip netip.Addr) bool { return ip == netip.MustParseAddr("10.77.1.1") })
	if err != nil || n != 1 {
		t.Errorf("%d, %v, want 1", n, err)
	}
}

// The kernel shows an address as the numbers that it is in memory.
func TestSocketAddr(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text  string
		order binary.ByteOrder
		want  string
	}{
		{"0100007F:1F90", binary.LittleEndian, "127.0.0.1:8080"},
		{"7F000001:1F90", binary.BigEndian, "127.0.0.1:8080"},
		{"00000000000000000000000001000000:1F90", binary.LittleEndian, "[::1]:8080"},
		{"00000000000000000000000000000001:1F90", binary.BigEndian, "[::1]:8080"},
		{"0000000000000000FFFF00000100007F:1F90", binary.LittleEndian, "127.0.0.1:8080"},
		{"00000000000000000000FFFF7F000001:1F90", binary.BigEndian, "127.0.0.1:8080"},
	} {
		if got, ok := socketAddr(tt.text, tt.order); !ok || got.String() != tt.want {
			t.Errorf("%s in %s: %s, want %s", tt.text, tt.order, got, tt.want)
		}
	}
}

func FuzzSocketAddr(f *testing.F) {
	f.Add("0100007F:1F90")
	f.Fuzz(func(t *testing.T, s string) {
		if a, ok := socketAddr(s, binary.NativeEndian); ok && !a.IsValid() {
			t.Errorf("%q is %v", s, a)
		}
	})
}
