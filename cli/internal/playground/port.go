//go:build linux

package playground

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An owner is a process that listens on a port.
type owner struct {
	PID     int
	Command string
}

func (o owner) String() string {
	if o.PID == 0 {
		return "a process that cannot be seen from here"
	}
	return fmt.Sprintf("process %d (%s)", o.PID, o.Command)
}

// portTaken tells who has a port of the host already; taken is false when
// nobody does.
func portTaken(address string, port int) (by owner, taken bool, err error) {
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
	if err == nil {
		return owner{}, false, l.Close()
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return owner{}, false, err
	}
	return portOwner(address, port), true, nil
}

// portOwner finds the process that listens where address:port would be.
func portOwner(address string, port int) owner {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if inode, ok := listener(lines.Text(), address, port); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return owner{}
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || !inodes[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		name := strings.Join(strings.FieldsFunc(string(text), func(c rune) bool { return c <= ' ' }), " ")
		if len(name) > 80 {
			name = name[:77] + "..."
		}
		return owner{pid, name}
	}
	return owner{}
}

// listener reads a line of /proc/net/tcp: does it stand for a listener that
// address:port would meet?
func listener(line, address string, port int) (inode string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "0A" {
		return "", false
	}
	at := socketAddress(fields[1])
	if !at.IsValid() || int(at.Port()) != port {
		return "", false
	}
	return fields[9], at.Addr().IsUnspecified() || at.Addr().String() == address
}

// socketAddress reads an address of /proc/net/tcp; the zero one for none.
func socketAddress(text string) netip.AddrPort {
	host, hexPort, _ := strings.Cut(text, ":")
	port, err := strconv.ParseUint(hexPort, 16, 16)
	if err != nil {
		return netip.AddrPort{}
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}
	}
	// Each group of four bytes is in the machine's order.
	for i := 0; i < len(raw); i += 4 {
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}

// isOurs tells whether the other end of a connection over loopback is a socket of
// our own user.
func isOurs(conn *net.TCPConn) bool {
	client, server := conn.RemoteAddr().(*net.TCPAddr).AddrPort(), conn.LocalAddr().(*net.TCPAddr).AddrPort()
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || socketAddress(fields[1]) != client || socketAddress(fields[2]) != server {
				continue
			}
			// One that its process has closed is nobody's, and has no inode.
			return fields[7] == strconv.Itoa(os.Geteuid()) && fields[9] != "0"
		}
	}
	return false
}
