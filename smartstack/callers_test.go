package smartstack

import (
	"maps"
	"net/netip"
	"testing"
)

func TestCallerNames(t *testing.T) {
	t.Parallel()
	got := callerNames([]LocalTask{
		{ID: "a", Host: "10.77.1.1", IP: "172.17.0.2", Service: "web", Instance: "main"},
		{ID: "b", Host: "10.77.1.1", IP: "172.17.0.3", Service: "", Instance: ""},         // not PaaSTA's
		{ID: "c", Host: "10.77.1.1", IP: "", Service: "batch", Instance: "main"},          // a process of the host
		{ID: "d", Host: "10.77.1.1", IP: "10.77.1.1", Service: "batch", Instance: "main"}, // the same
		{ID: "e", Host: "10.77.1.1", IP: "172.17.0.4", Service: "one", Instance: "main"},  // two of one address: unknown
		{ID: "f", Host: "10.77.1.1", IP: "172.17.0.4", Service: "two", Instance: "main"},
		{ID: "g", Host: "10.77.1.1", IP: "172.17.0.4", Service: "one", Instance: "main"},
		{ID: "h", Host: "10.77.1.1", IP: "nonsense", Service: "web", Instance: "main"},
	})
	if want := map[netip.Addr]string{netip.MustParseAddr("172.17.0.2"): "web.main"}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
