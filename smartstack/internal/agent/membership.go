package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// membership makes what changed at run time, and finds out what takes a reload.
func (a *Agent) membership(ctx context.Context, now time.Time) {
	var commands []haproxy.Command
	var changed []*registration
	for r := range a.stirred {
		if !r.proxied {
			r.applied, r.changed = r.set.Version, false
		}
		if !r.changed || r.left {
			continue
		}
		run, ok := a.hap.running[r.name]
		if !ok {
			a.hap.wishes.add(haproxy.ServiceNew, r.name+" is new")
			continue
		}
		change := haproxy.Diff(run, r.section)
		if !a.o.Global.Version.Dynamic() && len(change.Commands) > 0 {
			change.Reload = append(change.Reload, haproxy.Reason{Kind: haproxy.ServersChanged, Text: r.name + ": its servers changed"})
		}
		if len(change.Reload) > 0 {
			for _, why := range change.Reload {
				a.hap.wishes.add(why.Kind, why.Text)
			}
			continue
		}
		r.waiting = change.Waiting
		commands = append(commands, change.Commands...)
		changed = append(changed, r)
	}
	if len(commands) > 0 {
		if err := a.command(ctx, commands, now); err != nil {
			a.hap.retryAt = now.Add(200 * time.Millisecond)
			for _, r := range changed {
				a.hap.doubts[r.name] = true
			}
			a.log.Error("changed servers at run time", "err", err)
			return
		}
		a.files.configDirty(now)
	}
	for _, r := range changed {
		r.changed = r.waiting > 0
		r.touched = true
		r.applied = r.set.Version
	}
}

// tellHealth tells HAProxy what the probes of unproven servers found: it calls a
// server up before it ever checked it, and its first check may be minutes away.
// Its own checks go on, and have the last word.
func (a *Agent) tellHealth(ctx context.Context, now time.Time) {
	var lines []string
	for r := range a.stirred {
		for _, h := range r.health {
			word := "down"
			if h.up {
				word = "up"
			}
			for _, b := range a.hap.service(r.name).Backends {
				if slices.ContainsFunc(b.Servers, func(s haproxy.Server) bool { return s.Name == h.server }) {
					lines = append(lines, "set server "+b.Name+"/"+h.server+" health "+word)
				}
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	if _, err := a.runtime.Do(ctx, a.hap.pid, lines...); err != nil {
		a.hap.retryAt = now.Add(200 * time.Millisecond)
		a.log.Warn("told HAProxy what probes found", "err", err)
		return
	}
	for r := range a.stirred {
		r.health = nil
	}
}

// command runs commands and notes what they changed.
func (a *Agent) command(ctx context.Context, commands []haproxy.Command, now time.Time) error {
	var lines []string
	for _, c := range commands {
		lines = append(lines, c.Lines()...)
	}
	answers, err := a.runtime.Do(ctx, a.hap.pid, lines...)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range commands {
		n := len(c.Lines())
		if err := c.Refused(answers[:n]); err != nil {
			errs = append(errs, err)
		}
		answers = answers[n:]
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	touched := map[string][]haproxy.Command{}
	for _, c := range commands {
		name := a.owner(c.Backend)
		touched[name] = append(touched[name], c)
		a.o.Metrics.commands.WithLabelValues(c.Op.String()).Inc()
		key := c.Backend + "/" + c.Server.Name
		switch c.Op {
		case haproxy.Remove:
			a.hap.leaving[key] = now
			if a.hap.reapAt.Before(now) { // else others that leave are looked at before long
				a.hap.reapAt = now.Add(reapEvery / 5)
			}
		case haproxy.Ready:
			delete(a.hap.leaving, key)
		}
		a.log.Info("changed a server", "op", c.Op.String(), "backend", c.Backend, "server", c.Server.Name, "weight", c.Server.Weight)
	}
	for name, cs := range touched {
		a.runs(name, haproxy.Applied(a.hap.service(name), cs))
	}
	return nil
}
