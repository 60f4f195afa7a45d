package paasta

import (
	"maps"
	"slices"
	"strings"
)

// Locations is the geography of a site: location types from broad to narrow,
// and which location lies in which. Locations are written "type:value", e.g.
// "region:uswest1".
type Locations struct {
	Types   []string          // e.g. ecosystem, superregion, region, habitat
	Parents map[string]string // narrower → the next broader one that is known
}

// Compare is negative when type a is broader than b, 0 when they are equal or
// one is unknown.
func (l Locations) Compare(a, b string) int {
	i, j := slices.Index(l.Types, a), slices.Index(l.Types, b)
	if i < 0 || j < 0 {
		return 0
	}
	return i - j
}

// Convert returns, sorted, the locations of type to that contain location, or
// that lie in it; a location of that type is its own answer. What is not known
// has none.
func (l Locations) Convert(location, to string) []string {
	from, _, _ := strings.Cut(location, ":")
	switch {
	case from == to:
		return []string{location}
	case slices.Index(l.Types, from) < 0 || slices.Index(l.Types, to) < 0:
		return nil
	case l.Compare(to, from) < 0: // upwards
		if up := l.ancestor(location, to); up != "" {
			return []string{up}
		}
		return nil
	}
	var in []string
	for narrow := range l.Parents {
		if typ, _, _ := strings.Cut(narrow, ":"); typ == to && l.ancestor(narrow, from) == location {
			in = append(in, narrow)
		}
	}
	slices.Sort(in)
	return in
}

// ancestor climbs from location to its ancestor of type typ, "" when it has
// none. The number of steps is bounded, so that a cycle in Parents ends.
func (l Locations) ancestor(location, typ string) string {
	for range len(l.Types) + 1 {
		if t, _, _ := strings.Cut(location, ":"); t == typ {
			return location
		}
		next, ok := l.Parents[location]
		if !ok {
			return ""
		}
		location = next
	}
	return ""
}

// Labels returns the location labels, with empty values as nerve-tools writes
// them, of something that runs here (type → value) and is advertised in the
// given types. extra is a namespace's extra_advertise: what runs in a source
// location is advertised in its destinations too, in every advertised type that
// is as narrow as the destination's or narrower.
func (l Locations) Labels(here map[string]string, advertise []string, extra map[string][]string) map[string]string {
	labels := map[string]string{}
	for _, typ := range advertise {
		if value := here[typ]; value != "" {
			labels[typ+":"+value] = ""
		}
	}
	for _, source := range slices.Sorted(maps.Keys(extra)) {
		typ, value, _ := strings.Cut(source, ":")
		if value == "" || here[typ] != value {
			continue
		}
		for _, destination := range extra[source] {
			from, _, _ := strings.Cut(destination, ":")
			for _, to := range advertise {
				if l.Compare(from, to) > 0 {
					continue // a narrow destination says nothing about what is broader
				}
				for _, location := range l.Convert(destination, to) {
					labels[location] = ""
				}
			}
		}
	}
	return labels
}

// Discovered returns the locations in which clients that are here look for a
// namespace's backends, nearest first: that of the type that it is discovered by,
// and each wider one in which it is advertised. Nil means everywhere: so does a
// host that does not know where it is.
func (l Locations) Discovered(here map[string]string, discover string, advertise []string) []string {
	near := slices.Index(l.Types, discover)
	if near < 0 || here[discover] == "" {
		return nil
	}
	in := []string{discover + ":" + here[discover]}
	for _, wide := range slices.Backward(l.Types[:near]) {
		if here[wide] != "" && slices.Contains(advertise, wide) {
			in = append(in, wide+":"+here[wide])
		}
	}
	return in
}

// Within tells whether something with these labels is in one of the locations,
// which is so for what has no location, too, and for no locations.
func (l Locations) Within(locations []string, labels map[string]string) bool {
	if len(locations) == 0 || slices.ContainsFunc(locations, func(at string) bool { _, ok := labels[at]; return ok }) {
		return true
	}
	for label := range labels {
		if kind, _, ok := strings.Cut(label, ":"); ok && slices.Contains(l.Types, kind) {
			return false
		}
	}
	return true
}
