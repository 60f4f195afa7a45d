package cleanup

import (
	"context"
	"errors"
	"log/slog"
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
	node := func(path, host, cluster, task string) registry.Node {
		return registry.Node{Path: path, Entry: registry.Entry{Host: host, Port: 80, Labels: map[string]string{registry.LabelCluster: cluster, registry.LabelTaskID: task}}}
	}
	nodes := map[string][]registry.Node{"web.main": {
		node("runs", "10.0.0.1", "us", "a"),
		node("gone", "10.0.0.1", "us", "b"),
		node("another host", "10.0.0.2", "us", "c"),
		node("another cluster", "10.0.0.1", "them", "d"),
		node("no task id, runs", "10.0.0.1", "us", ""),
	}}
	start := time.Now()
	unknown := errors.New("no answer")
	tests := []struct {
		name   string
		rounds []time.Duration // after the entries were first seen
		errs   []error
		want   int
	}{
		{"two reads beyond the grace", []time.Duration{time.Minute, 2 * time.Minute}, []error{nil, nil}, 1},
		{"one read is not enough", []time.Duration{time.Minute}, []error{nil}, 0},
		{"within the grace", []time.Duration{time.Second, 2 * time.Second}, []error{nil, nil}, 0},
		{"unknown is not gone", []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}, []error{nil, unknown, nil}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{}
			var fails error
			c := &Cleaner{
				Registry: r, Cluster: "us", Addrs: func() []string { return []string{"10.0.0.1"} }, Nodes: func() map[string][]registry.Node { return nodes },
				Tasks: func(context.Context) ([]Task, error) {
					return []Task{{ID: "a", Host: "10.0.0.1", Port: 80}}, fails
				},
				Grace: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
				first: map[string]time.Time{}, missing: map[string]bool{},
			}
			for i, at := range tt.rounds {
				fails = tt.errs[i]
				if err := c.round(t.Context(), start.Add(at)); !errors.Is(err, fails) {
					t.Fatal(err)
				}
			}
			if len(r.removed) != tt.want || tt.want == 1 && r.removed[0] != "gone" {
				t.Errorf("removed %q, want %d", r.removed, tt.want)
			}
		})
	}
}
