package agent

import (
	"fmt"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A cache has the registrations of this host. It takes what happens to them, and
// answers which of them that concerns.
type cache struct {
	registrations map[string]*registration // by name
	dirty         set                      // to be built again
	later         set                      // to be built again without an event
	unapplied     set                      // built, and not compared with HAProxy yet
	touched       set                      // others have not seen them as they are
	dropped       []string                 // that others have not seen go
}

type set = map[*registration]bool

// update changes a registration, and marks it dirty if that matters.
func (c *cache) update(name string, change func(*registration) bool) {
	r := c.registrations[name]
	if r == nil {
		return
	}
	c.touched[r] = true
	if change(r) {
		c.dirty[r] = true
	}
}

// hostsMoved marks those dirty whose hosts may have other addresses.
func (c *cache) hostsMoved() {
	for _, r := range c.registrations {
		if len(r.answer.hosts) > 0 {
			c.dirty[r] = true
		}
	}
}

// due marks those dirty whose time has come.
func (c *cache) due(now time.Time) {
	for r := range c.later {
		if !now.Before(r.desired.again) {
			c.dirty[r] = true
		}
	}
}

// nextBuild is when the next one is due; zero for never.
func (c *cache) nextBuild() (at time.Time) {
	for r := range c.later {
		at = earliest(at, r.desired.again)
	}
	return at
}

// built notes a new build.
func (c *cache) built(r *registration) {
	delete(c.later, r)
	if !r.desired.again.IsZero() {
		c.later[r] = true
	}
	if r.namespace.Proxied() {
		c.unapplied[r] = true
	} else {
		r.applied = r.answer.set.Version
	}
	c.touched[r] = true
}

// unapply says that HAProxy has something else of registrations than it had.
func (c *cache) unapply(names []string) {
	for _, name := range names {
		if r := c.registrations[name]; r != nil && r.namespace.Proxied() {
			c.unapplied[r] = true
		}
	}
}

// markApplied notes that HAProxy has a registration as it was built.
func (c *cache) markApplied(r *registration) {
	r.applied = r.answer.set.Version
	delete(c.unapplied, r)
	c.touched[r] = true
}

// sections are all that should run.
func (c *cache) sections() []*haproxy.Section {
	sections := make([]*haproxy.Section, 0, len(c.registrations))
	for _, r := range c.registrations {
		if r.served() && r.desired.section != nil {
			sections = append(sections, r.desired.section)
		}
	}
	return sections
}

// drop forgets a registration.
func (c *cache) drop(r *registration) {
	r.stop()
	delete(c.registrations, r.name)
	for _, set := range []set{c.dirty, c.later, c.unapplied, c.touched} {
		delete(set, r)
	}
	c.dropped = append(c.dropped, r.name)
}

// references takes out proxied_through where that service is not here: requests
// then go straight, as they do while a proxy is down.
func (c *cache) references(problems map[string]error) {
	for _, r := range c.registrations {
		if !r.namespace.Proxied() {
			continue
		}
		through := r.namespace.Source.ProxiedThrough
		proxy := c.registrations[through]
		if through != "" && (proxy == nil || proxy == r || !proxy.namespace.Proxied() || proxy.namespace.Service.Mode != haproxy.ModeHTTP) {
			if problems[r.name] == nil {
				problems[r.name] = fmt.Errorf("proxied_through %s: no such service on this host", through)
			}
			through = ""
		}
		if r.namespace.Service.ProxiedThrough != through {
			r.namespace = r.namespace.Through(through)
			c.dirty[r] = true
		}
	}
}
