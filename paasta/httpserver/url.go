package httpserver

import (
	"net"
	"strconv"
)

// URL is where others reach an HTTP server that listens on addr: one that
// listens on all addresses is reached by the host's name.
func URL(addr net.Addr, hostname string) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() && hostname != "" {
		return "http://" + net.JoinHostPort(hostname, strconv.Itoa(tcp.Port))
	}
	return "http://" + addr.String()
}
