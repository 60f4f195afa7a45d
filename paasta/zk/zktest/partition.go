package zktest

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A Partition is a way to a server that can be cut: whoever uses its address
// loses the server, while the server goes on and lets the session expire. That
// is the way to lose a session for certain; after a Pause a server may find its
// clients quick enough to keep theirs.
type Partition struct {
	t      testing.TB
	server string
	l      net.Listener

	mu    sync.Mutex
	cut   bool
	drops bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// NewPartition returns a way to the server that is open. It ends with the test.
func NewPartition(t testing.TB, s *Server) *Partition {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Partition{t: t, server: s.Addr(), l: l, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.Heal()
		_ = l.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Addr is the address to use instead of the server's.
func (p *Partition) Addr() string { return p.l.Addr().String() }

// Cut closes every connection and refuses new ones until Heal.
func (p *Partition) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Drop loses every packet in both directions until Heal: nobody is told that a
// connection is gone. Use it in a paastatest.InNamespace only.
func (p *Partition) Drop() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	port := p.l.Addr().(*net.TCPAddr).Port
	p.nft(fmt.Sprintf("add table ip drop%d; add chain ip drop%[1]d in { type filter hook input priority 0; }; "+
		"add rule ip drop%[1]d in tcp dport %[1]d drop; add rule ip drop%[1]d in tcp sport %[1]d drop", port))
	p.drops = true
}

// Heal ends a Cut or Drop.
func (p *Partition) Heal() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	if p.drops {
		p.drops = false
		p.nft(fmt.Sprintf("delete table ip drop%d", p.l.Addr().(*net.TCPAddr).Port))
	}
}

func (p *Partition) nft(commands string) {
	p.t.Helper()
	if out, err := exec.Command(paastatest.Need(p.t, "nft"), commands).CombinedOutput(); err != nil {
		p.t.Errorf("nft %s: %v\n%s", commands, err, out)
	}
}

func (p *Partition) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil || !p.keep(client, server) {
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		p.wg.Go(func() { p.pipe(client, server) })
		p.wg.Go(func() { p.pipe(server, client) })
	}
}

// keep notes the connections, unless the way is cut.
func (p *Partition) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

func (p *Partition) pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // until either side ends
	_, _ = to.Close(), from.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, to)
	delete(p.conns, from)
}
