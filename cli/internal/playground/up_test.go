//go:build linux

package playground

import (
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A reboot empties /run. A playground that is brought up again after that must be
// known to the others, however far it comes: they go round its ports and leave
// the host's forwarding on.
func TestUpIsKnownAfterAReboot(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	dir := t.TempDir()
	p := &Playground{Dir: dir, Name: nameOf(dir), Address: "127.0.0.1", Agents: 3, Host: namespaceOf(os.Getpid())}
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.runtime()) })
	l, err := net.Listen("tcp", net.JoinHostPort(p.Address, strconv.Itoa(PortAPI)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		if err := p.complete(t.Context(), io.Discard); err == nil {
			t.Fatal("a playground whose port is taken is complete")
		}
		if others := otherPlaygrounds("paasta-another"); !slices.ContainsFunc(others, func(o *Playground) bool { return o.Dir == dir }) {
			t.Errorf("others know %v, and not %s", others, dir)
		}
	}
}
