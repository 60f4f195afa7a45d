package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

// atOnce connects, and says that it failed when the first SYN had no answer. How
// long a request takes depends on the machine; whether somebody listens does not.
func atOnce(reuse bool) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: !reuse,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			raw, err := conn.(*net.TCPConn).SyscallConn()
			if err != nil {
				return nil, err
			}
			var info *unix.TCPInfo
			var failed error
			if err := raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
				return nil, err
			}
			if failed == nil && info.Total_retrans > 0 {
				failed = fmt.Errorf("a SYN was lost: sent %d times again", info.Total_retrans)
			}
			return conn, failed
		},
	}
}
