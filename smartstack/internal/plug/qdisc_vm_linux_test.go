package plug

import "testing"

// TestQdisc holds connections with the plug qdisc, under a kernel that has it. It
// does not run beside the tests of this package that hold in real time: an
// emulated machine takes a processor of its own.
func TestQdisc(t *testing.T) {
	if !inDebiansKernel(t) {
		return
	}
	if err := Probe(Qdisc); err != nil {
		t.Fatal(err)
	}
	testAll(t, Qdisc, 4)
}
