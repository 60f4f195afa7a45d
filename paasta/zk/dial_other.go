//go:build !linux

package zk

import (
	"net"
	"time"
)

// setUserTimeout does nothing: keep-alives and the library's pings notice a
// partition.
func setUserTimeout(net.Conn, time.Duration) {}
