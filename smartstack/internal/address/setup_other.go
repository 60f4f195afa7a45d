//go:build !linux

package address

import (
	"errors"
	"net/netip"
)

// Setup is for Linux only.
func Setup([]netip.Addr) error { return errors.New("addresses can be put on lo on Linux only") }
