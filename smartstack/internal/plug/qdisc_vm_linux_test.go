package plug

import "testing"

// TestQdisc holds connections with the plug qdisc, under a kernel that has it.
func TestQdisc(t *testing.T) {
	t.Parallel()
	if !inDebiansKernel(t) {
		return
	}
	if err := Probe(Qdisc); err != nil {
		t.Fatal(err)
	}
	testAll(t, Qdisc, 4)
}
