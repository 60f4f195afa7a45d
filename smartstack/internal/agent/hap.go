package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// hap is what the agent knows of the HAProxy that runs.
type hap struct {
	maxConn int             // that it was started with by this agent; 0: not yet
	version string          // in full, e.g. 2.6.12-1; "": not known yet
	pid     int             // 0: none runs
	gone    <-chan struct{} // closed once pid has ended
	hash    string          // structure that it was started with
	// running is what it has, as far as we know: sections, with leaving servers.
	running map[string]*haproxy.Section
	states  []haproxy.ServerState // of an adopted process, by which running is filled
	proxies map[string]bool       // its frontends and backends
	adopted bool                  // hash has not been compared with what should run
	doubts  map[string]bool       // registrations of which running may be wrong: read them again
	checks  []string              // registrations that are read again one after the other
	checked int                   // parts of checks that are done
	custom  string                // operator's sections that it has

	wishes    wishes
	cold      bool      // this host has never served: there was neither a HAProxy nor a config
	settleEnd time.Time // and a cold one, which is told of more all the time, until then
	settled   int       // registrations that had answers when that was looked at last
	settleBy  time.Time // a start waits until then for what is still coming
	failures  int       // reloads in a row that did not work
	lastErr   string

	leaving map[string]time.Time // servers that are to be deleted, since when
	reapAt  time.Time
	retryAt time.Time // commands that did not work

	keepAt time.Time // when to try again to hold its listeners
	deaths int       // one soon after the other
	diedAt time.Time

	reloads  int
	lastWhy  string
	lastAt   time.Time
	lastTook time.Duration
}

const (
	// checkEvery is how often HAProxy is compared with what it should have, in so
	// many parts that none of them holds up a change.
	checkEvery = 30 * time.Second
	checkParts = 30
	// reapEvery is the pause between two tries to delete servers.
	reapEvery = 250 * time.Millisecond
)

func (h *hap) due() time.Time {
	var due time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	if at := h.wishes.due(); !at.IsZero() {
		if time.Now().After(at) && !h.settleBy.IsZero() {
			at = h.settleBy // until then whatever is awaited wakes us
		}
		earlier(at)
	}
	if len(h.leaving) > 0 {
		earlier(h.reapAt)
	}
	earlier(h.retryAt)
	earlier(h.keepAt)
	return due
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// service is how a registration runs, without backends if it does not.
func (h *hap) service(name string) haproxy.Service {
	if run := h.running[name]; run != nil {
		return run.Service
	}
	return haproxy.Service{}
}

// has tells whether HAProxy listens for a registration.
func (h *hap) has(name string) bool {
	_, ok := h.running[name]
	return ok || h.proxies[name]
}

// serves tells whether HAProxy has a server of a registration, and lets it take
// traffic.
func (h *hap) serves(name, server string) bool {
	for _, b := range h.service(name).Backends {
		for _, s := range b.Servers {
			if s.Name == server && !s.Leaving {
				return true
			}
		}
	}
	return false
}

// sections are all that should run.
func (a *Agent) sections() []*haproxy.Section {
	sections := make([]*haproxy.Section, 0, len(a.registrations))
	for _, r := range a.registrations {
		if r.proxied && !r.left && r.section != nil {
			sections = append(sections, r.section)
		}
	}
	return sections
}

// runs notes how a registration runs now, of which only the servers changed.
func (a *Agent) runs(name string, service haproxy.Service) {
	run := a.hap.running[name].With(service)
	if r := a.registrations[name]; r != nil && r.section != nil && run.Equal(r.section) {
		run = r.section // one is enough
	}
	a.hap.running[name] = run
}

// owner returns the registration of a backend: its name, or that without a
// location type.
func (a *Agent) owner(backend string) string {
	if _, ok := a.hap.running[backend]; ok {
		return backend
	}
	return backend[:max(strings.LastIndexByte(backend, '.'), 0)]
}

// started notes a new process.
func (a *Agent) started(ctx context.Context, pid int) {
	a.hap.pid, a.hap.gone = pid, haproxy.Gone(ctx, pid)
	a.view.forget()
	for name, run := range a.hap.running {
		if service, n := run.Service.Stayed(); n > 0 {
			a.hap.running[name] = run.With(service)
		}
	}
	timeout := time.After(5 * time.Second)
	for ctx.Err() == nil {
		// Until the old process has let go of the socket either may answer.
		if _, err := a.runtime.Do(ctx, pid, "show version"); err == nil {
			a.keep(ctx)
			return
		}
		select {
		case <-a.hap.gone:
			return // Run sees that as well
		case <-timeout:
			a.log.Error("waited for the runtime api of the new HAProxy", "pid", pid, "err", fmt.Errorf("no answer at %s", a.o.Process.Socket()))
			a.hap.keepAt = time.Now().Add(time.Second)
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}
