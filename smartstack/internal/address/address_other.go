//go:build !linux

package address

import (
	"errors"
	"net/netip"
)

// Setup is for Linux only.
func Setup([]netip.Addr) error { return errors.New("addresses can be put on lo on Linux only") }

// Connections is for Linux only.
func Connections(netip.AddrPort) (int, error) {
	return 0, errors.New("connections can be counted on Linux only")
}
