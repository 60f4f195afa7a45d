package zk

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout ends conn once what it sends, keep-alives too, has not been
// acknowledged for so long.
func setUserTimeout(conn net.Conn, d time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // it is closed: whoever uses it hears that
	}
	// Without it a partition is noticed later, by the library's pings.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
