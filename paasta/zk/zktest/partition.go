package zktest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Partition is a way to a server that can be cut: whoever uses its address
// loses the server, while the server goes on and lets the session expire. That
// is the way to lose a session for certain; after a Pause a server may find its
// clients quick enough to keep theirs.
type Partition struct {
	server string
	l      net.Listener

	mu    sync.Mutex
	cut   bool
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
	p := &Partition{server: s.Addr(), l: l, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
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

// Heal ends a Cut.
func (p *Partition) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
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
