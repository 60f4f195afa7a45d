package discover

import (
	"slices"
	"strings"
)

// A Location is where this host is.
type Location struct {
	Types []string          // broad to narrow
	Here  map[string]string // location type → this host's
}

// A view is the part of a registration's entries that one backend holds.
type view struct {
	backend string // name of the backend
	label   string // "type:location" that an entry must carry; "" for all
}

// views returns the backends of a registration, nearest first: that of the
// location that clients discover, and a wider one for each wider location that
// is advertised. A host that does not know where it is sees everything.
func (l Location) views(registration, discover string, advertise []string) []view {
	near := slices.Index(l.Types, discover)
	if near < 0 || l.Here[discover] == "" {
		return []view{{backend: registration}}
	}
	views := []view{{registration, discover + ":" + l.Here[discover]}}
	for _, wide := range slices.Backward(l.Types[:near]) {
		if l.Here[wide] != "" && slices.Contains(advertise, wide) {
			views = append(views, view{registration + "." + wide, wide + ":" + l.Here[wide]})
		}
	}
	return views
}

// sees tells whether an entry with these labels belongs into v. One that says
// nothing about locations is everywhere.
func (l Location) sees(v view, labels map[string]string) bool {
	if v.label == "" {
		return true
	}
	if _, ok := labels[v.label]; ok {
		return true
	}
	for label := range labels {
		if kind, _, ok := strings.Cut(label, ":"); ok && slices.Contains(l.Types, kind) {
			return false
		}
	}
	return true
}

// ByView returns those of members that each of the namespace's backends has, as the
// original synapse has a service for each; without a proxy_port those that callers
// here discover.
func (n Namespace) ByView(members []*Member) map[string][]*Member {
	views := n.views
	if len(views) == 0 {
		views = n.location.views(n.Registration, n.Source.Discover, nil)
	}
	all := make(map[string][]*Member, len(views))
	for _, v := range views {
		all[v.backend] = slices.DeleteFunc(slices.Clone(members), func(m *Member) bool { return !n.location.sees(v, m.Entry.Node.Labels) })
	}
	return all
}

// Sees tells whether an entry is in one of the locations that clients on this host
// discover. What is not is elsewhere, and none of this host's business.
func (n Namespace) Sees(e Entry) bool {
	if len(n.views) == 0 {
		return true // without a proxy_port nobody here asks for it
	}
	return slices.ContainsFunc(n.views, func(v view) bool { return n.location.sees(v, e.Node.Labels) })
}
