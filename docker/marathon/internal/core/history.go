package core

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A Root is all apps and groups as of one version. It must not be changed.
type Root struct {
	Version string
	Apps    map[string]*definition.App
	Groups  map[string][]string // id → what the group depends on; "/" only if it does
}

// A Revision is what one change found: undone from the latest on, they lead back to
// any version.
type Revision struct {
	Version string                     `json:"version"`          // that the change made
	Apps    map[string]*definition.App `json:"apps"`             // nil for those that were not there
	Groups  map[string][]string        `json:"groups,omitempty"` // all; nil when it changed none
}

// Root returns what is there now.
func (m *Machine) Root() Root {
	version := m.meta.Root
	if version == "" {
		version = m.meta.LastVersion // of a state that was stored without
	}
	if version == "" {
		version = "1970-01-01T00:00:00.000Z"
	}
	return Root{version, m.apps, m.groups}
}

// Roots returns all versions that are remembered, newest first.
func (m *Machine) Roots() []Root {
	r := m.Root()
	list := []Root{r}
	for i := len(m.history) - 1; i > 0; i-- {
		p := m.history[i]
		r = Root{m.history[i-1].Version, maps.Clone(r.Apps), r.Groups}
		for id, a := range p.Apps {
			if a == nil {
				delete(r.Apps, id)
			} else {
				r.Apps[id] = a
			}
		}
		if p.Groups != nil {
			r.Groups = p.Groups
		}
		list = append(list, r)
	}
	return list
}

// remember notes what was there before the change d, whose groups were before.
func (m *Machine) remember(d *Deployment, before map[string][]string) {
	p := &Revision{Version: d.Version, Apps: d.Original}
	if !maps.EqualFunc(before, m.groups, slices.Equal) {
		p.Groups = before
	}
	m.history = append(m.history, p)
	m.changes["past:"+p.Version] = p
	for keep := max(m.cfg.VersionsPerObject, 1); len(m.history) > keep; m.history = m.history[1:] {
		m.changes["past:"+m.history[0].Version] = nil
	}
	m.meta.Root = d.Version
	m.changes["meta:"] = m.meta
}

// Has tells whether a group exists; the root always does.
func (r Root) Has(group string) bool {
	_, ok := r.Groups[group]
	return ok || group == "/"
}

// Below returns the apps and groups of a group at every depth, with itself.
func (r Root) Below(group string) (apps, groups []string) {
	below := func(id string) bool { return group == "/" || id == group || strings.HasPrefix(id, group+"/") }
	for _, id := range slices.Sorted(maps.Keys(r.Apps)) {
		if below(id) {
			apps = append(apps, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.Groups)) {
		if below(id) {
			groups = append(groups, id)
		}
	}
	return apps, groups
}

// needs returns what an app depends on, by itself or through its groups: apps,
// and groups with all their apps.
func (r Root) needs(id string) []string {
	list := slices.Clone(r.Apps[id].Dependencies)
	for g := path.Dir(id); ; g = path.Dir(g) {
		list = append(list, r.Groups[g]...)
		if g == "/" {
			return list
		}
	}
}
