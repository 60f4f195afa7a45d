package agent

import (
	"context"
	"sync"
	"testing"

	"github.com/gopaasta/paasta/paasta/registry"
)

// memory is a registry in memory.
type memory struct {
	mu    sync.Mutex
	zxid  int64
	nodes map[string][]registry.Node
	wakes map[string][]func()
	fails error
}

func newMemory() *memory {
	return &memory{nodes: map[string][]registry.Node{}, wakes: map[string][]func(){}}
}

func (m *memory) List(_ context.Context, name string) (registry.Set, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return registry.Set{Nodes: append([]registry.Node(nil), m.nodes[name]...), Version: m.zxid}, m.fails
}
func (m *memory) Registrations(context.Context) ([]string, error) { return nil, nil }
func (m *memory) Apply(_ context.Context, name string, add []registry.Entry, remove []registry.Node) error {
	m.put(name, add...)
	return nil
}

func (m *memory) Watch(_ context.Context, name string, wake func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakes[name] = append(m.wakes[name], wake)
	return nil
}

// put makes entries all that a registration has.
func (m *memory) put(name string, entries ...registry.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes[name] = nil
	for _, e := range entries {
		m.zxid++
		m.nodes[name] = append(m.nodes[name], registry.Node{Entry: e, Path: registry.Root + "/" + name + "/" + e.Host, Czxid: m.zxid})
	}
	m.zxid++
	for _, w := range m.wakes[name] {
		w()
	}
}

func TestMembershipNeedsNoReload(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	reg.put("web.main", a.entry(), b.entry())
	h.start()
	h.up("web.main", a.port, b.port)
	reloads := h.reloads()
	stop := load(t, h.url("web.main"), 4)
	reg.put("web.main", a.entry(), b.entry(), c.entry())
	h.up("web.main", a.port, b.port, c.port)
	reg.put("web.main", a.entry(weight(0)), b.entry(), c.entry())
	h.up("web.main", b.port, c.port)
	reg.put("web.main", a.entry(weight(20)), b.entry(), c.entry())
	h.up("web.main", a.port, b.port, c.port)
	reg.put("web.main", b.entry(), c.entry())
	h.up("web.main", b.port, c.port)
	sent, failures := stop()
	t.Logf("%d requests", sent)
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(failures), sent, failures[0])
	}
	if got := h.reloads(); got != reloads {
		t.Errorf("%d reloads", got-reloads)
	}
}
