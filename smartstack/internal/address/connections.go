package address

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Connections counts the established TCP connections to a task on this host.
// There are three places to look, and none sees all: the task's own sockets (not
// those in a container), the kernel's connection tracking (what Docker forwards
// to containers) for clients elsewhere, and the sockets of this host's clients,
// HAProxy among them. What is tracked of a client of this host is not asked:
// there, a connection whose end the kernel did not recognize (a reset out of its
// window) counts as established for days.
func Connections(task netip.AddrPort) (int, error) {
	local, remote, err := sockets(task)
	if err != nil {
		return 0, err
	}
	tracked, err := tracked(task)
	if err != nil {
		return 0, err
	}
	return max(local, remote+tracked), nil
}

const established = "01"

func sockets(task netip.AddrPort) (local, remote int, err error) {
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, 0, err
		}
		l, r, err := countSockets(f, task)
		f.Close()
		if err != nil {
			return 0, 0, err
		}
		local, remote = local+l, remote+r
	}
	return local, remote, nil
}

func countSockets(in io.Reader, task netip.AddrPort) (local, remote int, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[3] != established {
			continue
		}
		if a, ok := socketAddr(f[1], binary.NativeEndian); ok && a == task {
			local++
		}
		if a, ok := socketAddr(f[2], binary.NativeEndian); ok && a == task {
			remote++
		}
	}
	return local, remote, lines.Err()
}

// socketAddr reads "0100007F:1F90": the address in 32-bit words, each of which is
// shown as a number of the machine's byte order.
func socketAddr(s string, order binary.ByteOrder) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		order.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	ip, valid := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), err == nil && valid
}

// tracked counts the connections that were made to task, wherever they were
// forwarded.
func tracked(task netip.AddrPort) (int, error) {
	f, err := os.Open("/proc/self/net/nf_conntrack")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // nothing is tracked, so nothing is forwarded
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	own, err := net.InterfaceAddrs()
	if err != nil {
		return 0, fmt.Errorf("list this host's addresses: %w", err)
	}
	return countTracked(f, task, func(ip netip.Addr) bool {
		return ip.IsLoopback() || slices.ContainsFunc(own, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip.AsSlice())
		})
	})
}

// countTracked counts what is established to task from addresses that are not
// local.
func countTracked(in io.Reader, task netip.AddrPort, local func(netip.Addr) bool) (int, error) {
	n := 0
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), " ESTABLISHED ") {
			continue
		}
		var from, host, port string
		for f := range strings.FieldsSeq(lines.Text()) {
			// The first of each is of the direction in which it was opened.
			if v, ok := strings.CutPrefix(f, "src="); ok && from == "" {
				from = v
			}
			if v, ok := strings.CutPrefix(f, "dst="); ok && host == "" {
				host = v
			}
			if v, ok := strings.CutPrefix(f, "dport="); ok && port == "" {
				port = v
			}
		}
		ip, err := netip.ParseAddr(host)
		client, srcErr := netip.ParseAddr(from)
		if err == nil && srcErr == nil && !local(client.Unmap()) && port == strconv.Itoa(int(task.Port())) && ip.Unmap() == task.Addr() {
			n++
		}
	}
	return n, lines.Err()
}
