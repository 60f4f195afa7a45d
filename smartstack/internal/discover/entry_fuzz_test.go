package discover

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/registry"
)

// Whatever a host is, it is one server at a sound address, or one mistake; and
// nothing but a name is ever looked up.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"10.0.0.1", "::1", "localhost", "db1.example.", "a b", "db\nserver", "1.2.3.4.5", "%", strings.Repeat("a.", 126) + "a"} {
		f.Add(host, "10.0.0.2")
	}
	f.Fuzz(func(t *testing.T, host, addr string) {
		set := registry.Set{Nodes: []registry.Node{{Entry: registry.Entry{Host: host, Port: 80, Weight: 10}, Path: "/x"}}}
		good, bad := Entries(set, func(name string) (netip.Addr, error) {
			if name != host || name == "" || strings.ContainsAny(name, " \t\r\n\x00/:%#'\"\\") {
				t.Errorf("%q is looked up", name)
			}
			a, err := netip.ParseAddr(addr)
			return a, errors.Join(err)
		})
		if len(good)+len(bad) != 1 {
			t.Errorf("%q: %v, %v", host, good, bad)
		}
		for at, e := range good {
			if !at.IsValid() || at.Addr().Zone() != "" || at.Addr().IsUnspecified() || strings.ContainsAny(e.Name, " \n") {
				t.Errorf("%q: %+v", host, e)
			}
		}
	})
}
