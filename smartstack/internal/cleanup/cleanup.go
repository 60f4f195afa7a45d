// Package cleanup takes entries of this host out of the registry whose task is
// gone, so that a port that is given to another service never carries a stale
// entry, whether masters live or not.
package cleanup

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A Task is one that runs on this host.
type Task struct {
	ID string // Marathon's
	// Host and Port are where it is registered; for entries without a task id.
	Host string
	Port int
}

// A Cleaner compares the entries that name this host with what runs on it.
type Cleaner struct {
	Registry registry.Registry
	Cluster  string // only entries with this owner are touched
	Addrs    func() []string
	// Nodes are the entries of all registrations, as they were read last.
	Nodes func() map[string][]registry.Node
	// Tasks lists what runs here. An error means unknown, and deletes nothing.
	Tasks func(context.Context) ([]Task, error)
	Every time.Duration // default 5s
	// Grace is how long an entry is left alone after it was first seen: tasks and
	// entries are not read at one moment. Default 30s.
	Grace time.Duration
	Log   *slog.Logger

	first   map[string]time.Time // by path: when the entry was first seen
	missing map[string]bool      // by path: its task was not there at the last read
}

// Run cleans until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error {
	if c.Every == 0 {
		c.Every = 5 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	c.first, c.missing = map[string]time.Time{}, map[string]bool{}
	ticker := time.NewTicker(c.Every)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := c.round(ctx, time.Now())
		if err != nil && ctx.Err() == nil && err.Error() != said {
			c.Log.Warn("looked for entries whose task is gone", "err", err)
		}
		said = ""
		if err != nil {
			said = err.Error()
		}
	}
}

// round deletes the entries whose task was missing at two reads in a row.
func (c *Cleaner) round(ctx context.Context, now time.Time) error {
	ours := c.ours()
	c.forget(ours)
	if len(ours) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tasks, err := c.Tasks(ctx)
	if err != nil {
		clear(c.missing)
		return err
	}
	ids, addrs := map[string]bool{}, map[address]bool{}
	for _, t := range tasks {
		ids[t.ID] = true
		addrs[address{t.Host, t.Port}] = true
	}
	gone := map[string][]registry.Node{}
	for path, o := range ours {
		id := o.node.Labels[registry.LabelTaskID]
		runs := id != "" && ids[id] || id == "" && addrs[address{o.node.Host, o.node.Port}]
		switch {
		case runs:
			delete(c.missing, path)
		case c.missing[path] && now.Sub(c.first[path]) >= c.Grace:
			gone[o.registration] = append(gone[o.registration], o.node)
		default:
			c.missing[path] = true
		}
	}
	for registration, nodes := range gone {
		if err := c.Registry.Apply(ctx, registration, nil, nodes); err != nil {
			return err
		}
		for _, n := range nodes {
			c.Log.Info("took out an entry whose task is gone", "registration", registration, "path", n.Path, "task", n.Labels[registry.LabelTaskID])
		}
	}
	return nil
}

type address struct {
	host string
	port int
}

type own struct {
	registration string
	node         registry.Node
}

// ours returns the entries of our cluster that name this host, by path.
func (c *Cleaner) ours() map[string]own {
	here := map[netip.Addr]bool{}
	for _, a := range c.Addrs() {
		if ip, err := netip.ParseAddr(a); err == nil {
			here[ip] = true
		}
	}
	ours := map[string]own{}
	for registration, nodes := range c.Nodes() {
		for _, n := range nodes {
			ip, err := netip.ParseAddr(n.Host)
			if err == nil && here[ip] && n.Labels[registry.LabelCluster] == c.Cluster {
				ours[n.Path] = own{registration, n}
			}
		}
	}
	return ours
}

// forget drops what is known of entries that are no more, and dates new ones.
func (c *Cleaner) forget(ours map[string]own) {
	for path := range c.first {
		if _, ok := ours[path]; !ok {
			delete(c.first, path)
			delete(c.missing, path)
		}
	}
	for path := range ours {
		if _, ok := c.first[path]; !ok {
			c.first[path] = time.Now()
		}
	}
}
