package discover

import (
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta"
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
	labels := paasta.Locations{Types: l.Types}.Discovered(l.Here, discover, advertise)
	if len(labels) == 0 {
		return []view{{backend: registration}}
	}
	views := []view{{registration, labels[0]}}
	for _, label := range labels[1:] {
		wide, _, _ := strings.Cut(label, ":")
		views = append(views, view{registration + "." + wide, label})
	}
	return views
}

// sees tells whether an entry with these labels belongs into v. One that says
// nothing about locations is everywhere.
func (l Location) sees(v view, labels map[string]string) bool {
	return v.label == "" || paasta.Locations{Types: l.Types}.Within([]string{v.label}, labels)
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
