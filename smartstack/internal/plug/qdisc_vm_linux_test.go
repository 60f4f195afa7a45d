package plug

import "testing"

// TestQdisc holds connections with the plug qdisc, under a kernel that has it. It
// does not run beside other tests: in an emulated machine that is starved of
// processor time the dead man's switch lets go, as it should.
func TestQdisc(t *testing.T) {
	if !inDebiansKernel(t) {
		return
	}
	if err := Probe(Qdisc); err != nil {
		t.Fatal(err)
	}
	testAll(t, Qdisc, 4)
}
