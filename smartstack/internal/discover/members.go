package discover

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// A Member is one address of a registration, as this host keeps it.
type Member struct {
	Entry Entry
	// Serving: it belongs into HAProxy. Otherwise it waits for its first probe.
	Serving bool
	// Unverified: it serves though no probe has passed yet, because the host had
	// nothing to serve with when it started.
	Unverified bool
	// Failing says that the last probe of an unverified member failed.
	Failing bool
	// Missing since when the registry does not name it any more; zero if it does.
	// A member that is missing is held: HAProxy keeps it.
	Missing time.Time
	// Down says that checks call a missing member down, so nothing keeps it.
	Down  bool
	Since time.Time // since when it is as it is
}

// Verified tells whether a probe of the member has passed.
func (m Member) Verified() bool { return m.Serving && !m.Unverified }

// draining tells whether the member takes no new requests by intention.
func (m Member) draining() bool { return m.Entry.Weight == 0 }

// Members are the members of one registration, and what was there lately.
type Members struct {
	All map[netip.AddrPort]*Member // members are replaced, never changed
	// sizes are how many members took traffic, oldest first: what the floor is
	// measured against.
	sizes []size
	// gone are those that went within the floor's window though nobody drained
	// them: when the registry turns out to be empty, they come back.
	gone []*Member
}

type size struct {
	at time.Time
	n  int
}

// Serving returns the members that belong into HAProxy, by address.
func (m Members) Serving() []*Member {
	var serving []*Member
	for _, member := range m.All {
		if member.Serving {
			serving = append(serving, member)
		}
	}
	slices.SortFunc(serving, func(a, b *Member) int { return a.Entry.Addr.Compare(b.Entry.Addr) })
	return serving
}

// Held counts the members that the registry does not name any more, and says
// since when the first of them is missing.
func (m Members) Held() (n int, since time.Time) {
	for _, member := range m.All {
		if !member.Missing.IsZero() {
			n++
			if since.IsZero() || member.Missing.Before(since) {
				since = member.Missing
			}
		}
	}
	return n, since
}

// A Floor bounds how fast servers go that nobody has drained.
type Floor struct {
	Share  float64 // of the servers that took traffic within Window, that may go
	Window time.Duration
}

// Next returns the members after a read of the registry that found entries,
// why it keeps members that are no longer there ("" if it keeps none), and when
// to decide again though nothing has changed (zero: never).
//
// A member that was drained goes at once, as does one that checks call down.
// What else is missing goes only as long as enough is left: never the last
// servers of a registration (an empty registry is more likely broken than
// right), and within the floor's window never more than its share.
func (m Members) Next(entries map[netip.AddrPort]Entry, floor Floor, now time.Time) (next Members, why string, again time.Time) {
	next.All = make(map[netip.AddrPort]*Member, len(entries))
	drained := 0
	for addr, e := range entries {
		old, known := m.All[addr]
		member := &Member{Entry: e, Since: now}
		switch {
		case known && old.Entry.Name == e.Name:
			member.Serving, member.Since, member.Unverified, member.Failing = old.Serving, old.Since, old.Unverified, old.Failing
			if member.Serving && member.draining() && !old.draining() {
				drained++
			}
		case known:
			member.Serving, member.Unverified, member.Failing = old.Serving, old.Unverified, old.Failing // the same address under another name needs no new probe
		}
		if member.draining() && !member.Serving {
			continue // never took traffic, and never will
		}
		next.All[addr] = member
	}

	// Drains are planned: they lower what the floor is measured against.
	next.sizes = slices.Clone(m.sizes)
	for i := range next.sizes {
		next.sizes[i].n -= drained
	}
	var missing []*Member
	for addr, old := range m.All {
		if _, ok := entries[addr]; ok || !old.Serving && old.Missing.IsZero() || old.draining() || old.Down {
			continue
		}
		lost := *old
		if lost.Missing.IsZero() {
			lost.Missing = now
		}
		missing = append(missing, &lost)
	}
	present := next.taking()
	peak := max(present, m.taking()-drained)
	for _, s := range next.window(floor.Window, now) {
		peak = max(peak, s.n)
	}
	keep := max(int(math.Ceil(float64(peak)*(1-floor.Share)))-present, 0)
	if len(entries) == 0 {
		// A registry that is wiped node by node loses some of them before it is
		// seen to be empty. They come back once they pass a probe.
		for _, old := range m.gone {
			if _, kept := m.All[old.Entry.Addr]; !kept && now.Sub(old.Missing) < floor.Window {
				back := *old
				back.Serving = false
				missing = append(missing, &back)
			}
		}
		keep = len(missing)
	}
	// Those that have been missing longest go first.
	slices.SortFunc(missing, func(a, b *Member) int {
		if c := b.Missing.Compare(a.Missing); c != 0 {
			return c
		}
		return a.Entry.Addr.Compare(b.Entry.Addr)
	})
	keep = min(keep, len(missing))
	for _, member := range missing[:keep] {
		next.All[member.Entry.Addr] = member
	}
	for _, old := range append(slices.Clone(m.gone), missing[keep:]...) {
		if _, back := next.All[old.Entry.Addr]; !back && now.Sub(old.Missing) < floor.Window {
			next.gone = append(next.gone, old)
		}
	}
	switch {
	case keep > 0 && len(entries) == 0:
		why = fmt.Sprintf("the registry has no entries for this host any more; the last %d servers stay until it has, or checks call them down", keep)
	case keep > 0:
		why = fmt.Sprintf("%d of %d servers would go within %s; %d stay for now", len(missing), peak, floor.Window, keep)
	}
	next.sizes = append(next.window(floor.Window, now), size{now, next.taking()})
	if keep > 0 && len(entries) > 0 {
		again = next.sizes[0].at.Add(floor.Window + time.Millisecond)
		if !again.After(now) {
			again = now.Add(floor.Window)
		}
	}
	return next, why, again
}

// Without returns the members but those that are elsewhere. They are not missed:
// as with a drain, somebody wanted it so.
func (m Members) Without(elsewhere func(Entry) bool) Members {
	left, gone := Members{All: make(map[netip.AddrPort]*Member, len(m.All)), gone: m.gone}, 0
	for addr, member := range m.All {
		switch {
		case !elsewhere(member.Entry):
			left.All[addr] = member
		case member.Serving && !member.draining():
			gone++
		}
	}
	if len(left.All) == len(m.All) {
		return m
	}
	left.sizes = slices.Clone(m.sizes)
	for i := range left.sizes {
		left.sizes[i].n -= gone
	}
	return left
}

// taking counts the members that take new requests.
func (m Members) taking() int {
	n := 0
	for _, member := range m.All {
		if member.Serving && !member.draining() {
			n++
		}
	}
	return n
}

// window returns the sizes that were true at some time within the window.
func (m Members) window(window time.Duration, now time.Time) []size {
	start := now.Add(-window)
	first := 0
	for i, s := range m.sizes {
		if !s.at.After(start) {
			first = i // the last one before the window was true at its start
		}
	}
	return slices.Clone(m.sizes[min(first, len(m.sizes)):])
}

// Put adds a member, or puts it in the place of the one with its address.
func (m *Members) Put(member Member) {
	if m.All == nil {
		m.All = map[netip.AddrPort]*Member{}
	}
	m.All[member.Entry.Addr] = &member
}
