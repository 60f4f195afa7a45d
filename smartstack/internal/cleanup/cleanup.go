// Package cleanup takes entries of this host out of the registry whose task is
// gone, so that a port that is given to another service never carries a stale
// entry, whether masters live or not.
package cleanup

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A Task is one that runs, or may run, on this host.
type Task struct {
	ID    string // Marathon's
	Host  string // the IP address where its ports are
	Ports []int
	// IP is the address that its connections come from, "" if that is the host's.
	IP                string
	Service, Instance string // "" if it is not PaaSTA's
}

// Local is what runs on this host.
type Local struct {
	// Addresses are those of this host for which Tasks is complete: entries at
	// another one are left alone.
	Addresses []string
	Tasks     []Task
}

// A Cleaner compares the entries that name this host with what runs on it.
//
// An entry goes only on what is known: it names a task that was not there at two
// reads in a row, it is not young, and its port refuses connections or belongs
// to another task. A list of tasks that lacks one which still answers is not
// believed.
type Cleaner struct {
	Registry registry.Registry
	Cluster  string // only entries with this owner are touched
	Addrs    func() []string
	// Nodes are the entries of all registrations, as they were read last.
	Nodes func() map[string][]registry.Node
	// Tasks lists what runs here. An error means unknown, and deletes nothing.
	Tasks func(context.Context) (Local, error)
	Every time.Duration // default 5s
	// Grace is how long an entry is left alone after it was first seen: tasks and
	// entries are not read at one moment. Default 30s.
	Grace time.Duration
	Log   *slog.Logger

	refuses func(context.Context, netip.AddrPort) bool // default: refuses
	first   map[string]time.Time                       // by path: when the entry was first seen
	missing map[string]bool                            // by path: its task was not there at the last read
	odd     map[string]bool                            // by path: said that it answers without a task
}

// Run cleans until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error {
	if c.Every == 0 {
		c.Every = 5 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	c.init()
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
			c.Log.Warn("look for entries whose task is gone failed", "err", err)
		}
		said = ""
		if err != nil {
			said = err.Error()
		}
	}
}

func (c *Cleaner) init() {
	c.first, c.missing, c.odd = map[string]time.Time{}, map[string]bool{}, map[string]bool{}
	if c.refuses == nil {
		c.refuses = refuses
	}
}

// round deletes the entries whose task is gone.
func (c *Cleaner) round(ctx context.Context, now time.Time) error {
	ours := c.ours()
	c.forget(ours, now)
	if len(ours) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// After the entries: a task that comes between the two reads is in the list.
	local, err := c.Tasks(ctx)
	if err != nil {
		clear(c.missing)
		return err
	}
	ids, holders, complete := map[string]bool{}, map[netip.AddrPort]bool{}, map[netip.Addr]bool{}
	for _, text := range local.Addresses {
		if ip, err := netip.ParseAddr(text); err == nil {
			complete[ip] = true
		}
	}
	for _, t := range local.Tasks {
		ids[t.ID] = true
		for _, port := range t.Ports {
			if ip, err := netip.ParseAddr(t.Host); err == nil {
				holders[netip.AddrPortFrom(ip, uint16(port))] = true
			}
		}
	}
	gone := map[string][]registry.Node{}
	for path, o := range ours {
		switch {
		case ids[o.node.Labels[registry.LabelTaskID]] || !complete[o.addr.Addr()]:
			delete(c.missing, path)
		case !c.missing[path] || now.Sub(c.first[path]) < c.Grace:
			c.missing[path] = true
		case holders[o.addr] || c.refuses(ctx, o.addr):
			gone[o.registration] = append(gone[o.registration], o.node)
		case !c.odd[path]:
			c.odd[path] = true
			c.Log.Warn("an entry stays though its task is not known: its port answers",
				"registration", o.registration, "path", path, "task", o.node.Labels[registry.LabelTaskID])
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

// refuses tells whether nobody listens at addr: only a refusal says so.
func refuses(ctx context.Context, addr netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(addr.Addr().String(), strconv.Itoa(int(addr.Port()))))
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

type own struct {
	registration string
	node         registry.Node
	addr         netip.AddrPort
}

// ours returns the entries of our cluster that name this host and a task, by
// path.
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
			if err == nil && here[ip] && n.Labels[registry.LabelCluster] == c.Cluster && n.Labels[registry.LabelTaskID] != "" {
				ours[n.Path] = own{registration, n, netip.AddrPortFrom(ip, uint16(n.Port))}
			}
		}
	}
	return ours
}

// forget drops what is known of entries that are no more, and dates new ones.
func (c *Cleaner) forget(ours map[string]own, now time.Time) {
	for path := range c.first {
		if _, ok := ours[path]; !ok {
			delete(c.first, path)
			delete(c.missing, path)
			delete(c.odd, path)
		}
	}
	for path := range ours {
		if _, ok := c.first[path]; !ok {
			c.first[path] = now
		}
	}
}
