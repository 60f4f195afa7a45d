package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Setup puts the link-local ones among addrs on lo, where they are missing. What
// is there already stays as it is, and nothing is ever removed: clients and
// containers use the address while the agent is away.
func Setup(addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		if !a.IsLinkLocalUnicast() {
			continue
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		mask := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		err = netlink.AddrAdd(lo, &netlink.Addr{IPNet: mask})
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			errs = append(errs, fmt.Errorf("put %s on lo: %w", a, err))
		}
	}
	return errors.Join(errs...)
}
