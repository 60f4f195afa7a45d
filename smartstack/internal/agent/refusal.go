package agent

import (
	"crypto/sha256"
	"errors"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A refusal is why HAProxy does not have a namespace as soa-configs have it. It
// is kept: to ask for the same again and again would cost a reload each time.
type refusal struct {
	err       error
	structure [sha256.Size]byte // of what was refused
}

// refuse takes a namespace back to what worked.
func (a *Agent) refuse(name string, err error) {
	r := a.registrations[name]
	refused := &refusal{err: err, structure: structure(r.namespace)}
	r.refused, r.problem, r.touched = refused, err.Error(), true
	a.stir(r)
	a.problems[name], a.retry = err, true
	if r.good.Registration == "" || structure(r.good) == refused.structure {
		r.left = true
		a.log.Error("left out a namespace", "registration", name, "err", err)
		return
	}
	r.namespace, r.stale = r.good, true
	a.build(r)
	a.log.Error("kept the last good section of a namespace", "registration", name, "err", err)
}

// refuses tells whether HAProxy has refused a namespace, and would do so again.
// What it refused when it started may be a port that is free by now.
func (a *Agent) refuses(r *registration, n discover.Namespace) bool {
	if r.refused == nil || r.refused.structure != structure(n) {
		return false
	}
	refused, ok := errors.AsType[*haproxy.ConfigError](r.refused.err)
	started := ok && refused.Did == haproxy.Started
	return !started || a.hap.has(r.name) || free(n.Service.Bind) != nil
}

// structure is what HAProxy accepts or refuses of a namespace: all but the
// servers, and without what it refers to, which is never what is wrong.
func structure(n discover.Namespace) [sha256.Size]byte {
	s := n.Service
	s.ProxiedThrough = ""
	return haproxy.NewSection(s).Structure
}
