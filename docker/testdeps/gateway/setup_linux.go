package gateway

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The old ioctls, and not netlink: three calls, without a library.

// deviceOf returns the name of the interface with an address.
func deviceOf(address string) (string, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, d := range devices {
		addresses, err := d.Addrs()
		if err != nil {
			return "", fmt.Errorf("addresses of %s: %w", d.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().String() == address {
				return d.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface has the address %s", address)
}

// addAddress gives an interface a further address. One that is there stays.
func addAddress(device, address string, bits int) error {
	if _, err := deviceOf(address); err == nil {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(device + ":1") // an alias, beside what is there
	if err != nil {
		return err
	}
	for _, set := range []struct {
		request uint
		value   []byte
	}{{unix.SIOCSIFADDR, netip.MustParseAddr(address).AsSlice()}, {unix.SIOCSIFNETMASK, net.CIDRMask(bits, 32)}} {
		if err := r.SetInet4Addr(set.value); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.request, r); err != nil {
			return fmt.Errorf("add the address %s to %s: %w", address, device, err)
		}
	}
	return nil
}

// rtentry is struct rtentry of linux/route.h on 64-bit machines.
type rtentry struct {
	_                     uint64
	dst, gateway, genmask unix.RawSockaddrInet4
	flags                 uint16
	_                     [6]byte
	_                     uint64
	_                     uint64 // tos, class and padding
	metric                int16
	_                     [6]byte
	dev                   uintptr
	mtu, window           uint64
	irtt                  uint16
	_                     [6]byte
}

// dropDefaultRoute takes the way out of this container's network away.
func dropDefaultRoute(via string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	entry := rtentry{flags: unix.RTF_UP | unix.RTF_GATEWAY}
	entry.dst.Family, entry.gateway.Family, entry.genmask.Family = unix.AF_INET, unix.AF_INET, unix.AF_INET
	entry.gateway.Addr = netip.MustParseAddr(via).As4()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCDELRT, uintptr(unsafe.Pointer(&entry)))
	if errno != 0 && errno != unix.ESRCH { // gone already
		return fmt.Errorf("drop the route by %s: %w", via, errno)
	}
	return nil
}

// answerTable is the routing table of answers, firstEphemeral the first port
// that Linux gives to a client.
const (
	answerTable    = 100
	firstEphemeral = 32768
)

// letAnswersOut lets answers to who calls a published port from beyond the
// engine's machine leave the network, by a router: what containers send over TCP
// from a service's port.
func letAnswersOut(via string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const lookUp = 1 // FR_ACT_TO_TBL
	ports := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, 1), firstEphemeral-1)
	// struct fib_rule_hdr has the layout of struct rtmsg, with the action last.
	err = request(fd, unix.RTM_NEWROUTE, unix.RtMsg{Family: unix.AF_INET, Table: answerTable, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST},
		attribute{unix.RTA_GATEWAY, netip.MustParseAddr(via).AsSlice()})
	if err == nil {
		err = request(fd, unix.RTM_NEWRULE, unix.RtMsg{Family: unix.AF_INET, Table: answerTable, Type: lookUp},
			attribute{unix.FRA_IP_PROTO, []byte{unix.IPPROTO_TCP}}, attribute{unix.FRA_SPORT_RANGE, ports})
	}
	if err != nil {
		return fmt.Errorf("let answers out by %s: %w", via, err)
	}
	return nil
}

// An attribute is one of a netlink message.
type attribute struct {
	kind  uint16
	value []byte
}

// request sends the kernel a netlink message, and waits for its answer.
func request(fd int, kind uint16, m unix.RtMsg, attributes ...attribute) error {
	order := binary.NativeEndian
	body := []byte{m.Family, m.Dst_len, m.Src_len, m.Tos, m.Table, m.Protocol, m.Scope, m.Type}
	body = order.AppendUint32(body, m.Flags)
	for _, a := range attributes {
		body = order.AppendUint16(body, uint16(unix.SizeofRtAttr+len(a.value)))
		body = append(order.AppendUint16(body, a.kind), a.value...)
		body = append(body, make([]byte, -len(body)&3)...)
	}
	message := order.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = order.AppendUint16(message, kind)
	message = order.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	message = append(message, make([]byte, 8)...) // sequence and port: there is one question, and we ask it
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return unix.EBADMSG
	}
	if errno := int32(order.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

// sniff notes calls of ports at which nobody listens, which the kernel refuses
// without telling us.
func (g *gateway) sniff(ctx context.Context) {
	ip := binary.NativeEndian.Uint16([]byte{0x08, 0x00}) // ETH_P_IP in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(ip))
	if err != nil {
		fmt.Fprintln(g.out, "calls of ports that no service has are refused without a word:", err)
		return
	}
	defer unix.Close(fd)
	// So that the end of ctx is seen.
	wait := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		fmt.Fprintln(g.out, "calls of ports that no service has are refused without a word:", err)
		return
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, synsToProduction()); err != nil {
		fmt.Fprintln(g.out, "calls of ports that no service has are refused without a word:", err)
		return
	}
	packet := make([]byte, 128)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		if err != nil {
			if err != unix.EAGAIN && err != unix.EINTR {
				fmt.Fprintln(g.out, "calls of ports that no service has are refused without a word:", err)
				return
			}
			continue
		}
		if from, port, ok := parseSYN(packet[:n]); ok && !g.listening[port] {
			g.refuse(g.client(&net.TCPAddr{IP: from}), port)
		}
	}
}

// parseSYN reads who asks for a connection to which port of the production
// address.
func parseSYN(packet []byte) (from net.IP, port int, ok bool) {
	if len(packet) < 20 {
		return nil, 0, false
	}
	header := int(packet[0]&15) * 4
	if packet[0]>>4 != 4 || packet[9] != unix.IPPROTO_TCP || len(packet) < header+14 || net.IP(packet[16:20]).String() != Production {
		return nil, 0, false
	}
	if flags := packet[header+13]; flags&0x12 != 2 {
		return nil, 0, false
	}
	return net.IP(append([]byte{}, packet[12:16]...)), int(binary.BigEndian.Uint16(packet[header+2:])), true
}

// synsToProduction lets only the start of connections to the production address
// through, so that nothing else costs anything.
func synsToProduction() *unix.SockFprog {
	to := binary.BigEndian.Uint32(netip.MustParseAddr(Production).AsSlice())
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},                       // destination
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 6, K: to},               //
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},                        // protocol
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 4, K: unix.IPPROTO_TCP}, //
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0},                       // length of the header
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 13},                       // flags
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: 2},               // SYN
		{Code: unix.BPF_RET | unix.BPF_K, K: 128},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
}
