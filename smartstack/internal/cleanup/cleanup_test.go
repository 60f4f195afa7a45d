package cleanup

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// recorder is a registry that notes what is removed.
type recorder struct {
	registry.Registry
	removed []string
}

func (r *recorder) Apply(_ context.Context, _ string, _ []registry.Entry, remove []registry.Node) error {
	for _, n := range remove {
		r.removed = append(r.removed, n.Path)
	}
	return nil
}

func TestRound(t *testing.T) {
	t.Parallel()
	node := func(path, host, cluster, task string, port int) registry.Node {
		return registry.Node{Path: path, Entry: registry.Entry{Host: host, Port: port, Labels: map[string]string{registry.LabelCluster: cluster, registry.LabelTaskID: task}}}
	}
	nodes := map[string][]registry.Node{"web.main": {
		node("runs", "10.0.0.1", "us", "a", 80),
		node("gone", "10.0.0.1", "us", "b", 81),
		node("another task has its port", "10.0.0.1", "us", "e", 80),
		node("its port answers", "10.0.0.1", "us", "f", 82),
		node("another host", "10.0.0.2", "us", "c", 81),
		node("another address of this host", "10.0.0.3", "us", "c", 81),
		node("another cluster", "10.0.0.1", "them", "d", 81),
		node("names no task", "10.0.0.1", "us", "", 81),
	}}
	start := time.Now()
	unknown := errors.New("no answer")
	both := []string{"another task has its port", "gone"}
	tests := []struct {
		name   string
		rounds []time.Duration // after the entries were first seen
		errs   []error
		want   []string
	}{
		{"two reads beyond the grace", []time.Duration{0, time.Minute}, []error{nil, nil}, both},
		{"one read is not enough", []time.Duration{time.Minute}, []error{nil}, nil},
		{"within the grace", []time.Duration{0, time.Second, 29 * time.Second}, []error{nil, nil, nil}, nil},
		{"unknown is not gone", []time.Duration{0, time.Minute, 2 * time.Minute}, []error{nil, unknown, nil}, nil},
		{"unknown counts from anew", []time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute}, []error{nil, unknown, nil, nil}, both},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{}
			var fails error
			c := &Cleaner{
				Registry: r, Cluster: "us", Addrs: func() []string { return []string{"10.0.0.1", "10.0.0.3"} }, Nodes: func() map[string][]registry.Node { return nodes },
				Tasks: func(context.Context) (Local, error) {
					return Local{Addresses: []string{"10.0.0.1"}, Tasks: []Task{{ID: "a", Host: "10.0.0.1", Ports: []int{80}}}}, fails
				},
				Grace: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
				refuses: func(_ context.Context, addr netip.AddrPort) bool { return addr.Port() == 81 },
			}
			c.init()
			for i, at := range tt.rounds {
				fails = tt.errs[i]
				if err := c.round(t.Context(), start.Add(at)); !errors.Is(err, fails) {
					t.Fatal(err)
				}
			}
			slices.Sort(r.removed)
			if !slices.Equal(r.removed, tt.want) {
				t.Errorf("removed %q, want %q", r.removed, tt.want)
			}
		})
	}
}

// What refuses, and what does not: a port that answers, and one that is silent.
func TestRefuses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	if refuses(t.Context(), addr) {
		t.Error("a port that somebody listens at refuses")
	}
	l.Close()
	if !refuses(t.Context(), addr) {
		t.Error("a port that nobody listens at does not refuse")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if refuses(ended, addr) {
		t.Error("what could not be asked refuses")
	}
}
