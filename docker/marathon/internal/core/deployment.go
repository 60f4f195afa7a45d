package core

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A Deployment is a change that was accepted and is being made.
type Deployment struct {
	ID       string                     `json:"id"`
	Version  string                     `json:"version"`
	Steps    []Step                     `json:"steps"`
	Step     int                        `json:"step"`     // 1-based; 0 before the first
	Original map[string]*definition.App `json:"original"` // of the apps that change; nil for new ones
	Target   map[string]*definition.App `json:"target"`   // nil for those that go
	Progress map[string]*Progress       `json:"progress"` // by app, of the current step
}

// Progress is how far a rolling replacement is.
type Progress struct {
	Roll
	Counted map[string]bool `json:"counted"` // new tasks that have been healthy and ready
}

// affected returns the ids of the apps that the steps touch, in order.
func (d *Deployment) affected() []string {
	ids := []string{}
	for _, s := range d.Steps {
		for _, a := range s.Actions {
			if !slices.Contains(ids, a.App) {
				ids = append(ids, a.App)
			}
		}
	}
	return ids
}

// A Request is where a change came from.
type Request struct {
	ClientIP string
	URI      string
}

// A Change is a set of changes that are one deployment.
type Change struct {
	Put     []*definition.App // new or changed definitions; Version and VersionInfo are filled in
	Delete  []string
	Restart []string
	Groups  map[string][]string // to be made, even if empty; not nil is what they depend on from now on
	Drop    []string            // groups to be removed with all below
}

// Change makes a change of several apps. Without force it is refused while a
// deployment runs that touches one of them; with it that one is cancelled.
func (m *Machine) Change(now time.Time, by Request, c Change, force bool) (*Deployment, error) {
	return m.change(now, by, c, force, func() {})
}

// Steps returns what Change would do, in order.
func (m *Machine) Steps(c Change) []Step {
	old, target, all := map[string]*definition.App{}, map[string]*definition.App{}, maps.Clone(m.apps)
	for _, a := range c.Put {
		old[a.ID], target[a.ID], all[a.ID] = m.apps[a.ID], a, a
	}
	for _, id := range c.Delete {
		old[id], target[id] = m.apps[id], nil
		delete(all, id)
	}
	return append([]Step{}, Plan(old, target, nil, Root{"", all, m.groupsAfter(c)})...)
}

func (m *Machine) change(now time.Time, by Request, c Change, force bool, accepted func()) (*Deployment, error) {
	d := &Deployment{
		ID: m.cfg.NewID(), Version: m.newVersion(now), Original: map[string]*definition.App{},
		Target: map[string]*definition.App{}, Progress: map[string]*Progress{},
	}
	if err := m.prepare(d, c, force); err != nil {
		m.emit(now, "group_change_failed", map[string]any{"groupId": "/", "version": d.Version, "reason": err.Error()})
		return nil, err
	}
	for _, other := range m.conflicts(d) {
		m.cancel(now, other)
	}
	accepted()
	for _, a := range c.Put {
		m.emit(now, "api_post_event", map[string]any{"clientIp": by.ClientIP, "uri": by.URI, "appDefinition": a})
	}
	for _, id := range c.Restart {
		m.emit(now, "api_post_event", map[string]any{"clientIp": by.ClientIP, "uri": by.URI, "appDefinition": d.Target[id]})
	}
	m.store(d, c)
	m.emit(now, "group_change_success", map[string]any{"groupId": groupOf(d), "version": d.Version})
	m.deployments = append(m.deployments, d)
	m.reconcile(now)
	return d, nil
}

// groupOf names the group that a change is in, for its event.
func groupOf(d *Deployment) string {
	ids := d.affected()
	if len(ids) == 0 {
		return "/"
	}
	if i := strings.LastIndex(ids[0], "/"); i > 0 {
		return ids[0][:i]
	}
	return "/"
}

// form fills in the deployment, and checks everything that could be wrong. It
// changes nothing but d and the definitions in c.
func (m *Machine) prepare(d *Deployment, c Change, force bool) error {
	all := maps.Clone(m.apps)
	groups := m.groupsAfter(c)
	restart := map[string]bool{}
	for _, id := range c.Delete {
		d.Original[id], d.Target[id] = m.apps[id], nil
		delete(all, id)
	}
	for _, a := range c.Put {
		if err := m.checkPlace(a.ID, all); err != nil {
			return err
		}
		d.Original[a.ID], d.Target[a.ID] = m.apps[a.ID], a
		all[a.ID] = a
	}
	if err := m.assignPorts(d, all); err != nil {
		return err
	}
	for id, a := range d.Target {
		if a != nil {
			setVersion(a, d.Original[id], d.Version)
			// What a cancelled replacement has left undone is done by this one.
			restart[id] = slices.ContainsFunc(m.wanted(id), func(t *Task) bool { return !t.upToDate(a) })
		}
	}
	for _, id := range c.Restart {
		a := m.apps[id].Clone()
		a.Version = d.Version
		a.VersionInfo.LastConfigChangeAt = d.Version
		d.Original[id], d.Target[id], restart[id] = m.apps[id], a, true
		all[id] = a
	}
	root := Root{d.Version, all, groups}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if depth(id, root, nil) < 0 {
			return definition.Invalid("/", "Dependency graph has cyclic dependencies. %s depends on itself.", id)
		}
	}
	d.Steps = Plan(d.Original, d.Target, restart, root)
	if len(m.deployments) >= m.cfg.MaxDeployments {
		return Refuse(403, "Max number (%d) of running deployments is achieved. Wait for existing deployments to complete or cancel one using force=true parameter.", m.cfg.MaxDeployments)
	}
	if locked := m.conflicts(d); len(locked) > 0 && !force {
		e := Refuse(409, "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.")
		ids := []map[string]string{}
		for _, other := range locked {
			ids = append(ids, map[string]string{"id": other.ID})
		}
		e.Body["deployments"] = ids
		return e
	}
	return nil
}

// groupsAfter returns the groups that there will be after a change, but for those
// that new apps make, which depend on nothing.
func (m *Machine) groupsAfter(c Change) map[string][]string {
	groups := maps.Clone(m.groups)
	for _, drop := range c.Drop {
		maps.DeleteFunc(groups, func(id string, _ []string) bool {
			return id == drop || drop == "/" || strings.HasPrefix(id, drop+"/")
		})
	}
	for id, dependencies := range c.Groups {
		if _, ok := groups[id]; dependencies != nil || !ok && id != "/" {
			groups[id] = dependencies
		}
	}
	return groups
}

// checkPlace refuses an app where a group is, or below an app.
func (m *Machine) checkPlace(id string, all map[string]*definition.App) error {
	if all[id] != nil {
		return nil
	}
	if _, ok := m.groups[id]; ok {
		for other := range all {
			if strings.HasPrefix(other, id+"/") {
				return definition.Invalid("/id", "a group with id %s exists, and holds apps", id)
			}
		}
	}
	for other := range all {
		if strings.HasPrefix(id, other+"/") {
			return definition.Invalid("/id", "an app with id %s exists: nothing can be below it", other)
		}
	}
	return nil
}

func (m *Machine) assignPorts(d *Deployment, all map[string]*definition.App) error {
	used := map[int]bool{}
	for _, apps := range []map[string]*definition.App{m.apps, all} {
		for _, a := range apps {
			for _, p := range a.ServicePorts() {
				used[p] = true
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.Target)) {
		a := d.Target[id]
		if a != nil && !a.AssignPorts(d.Original[id], used, m.cfg.ServicePortLow, m.cfg.ServicePortHigh) {
			return Refuse(422, "All ports in the range [%d-%d) are already in use", m.cfg.ServicePortLow, m.cfg.ServicePortHigh)
		}
	}
	return nil
}

// stamp sets what a new definition's version says.
func setVersion(a, old *definition.App, version string) {
	switch {
	case old == nil || !definition.SameConfig(a, old):
		a.Version, a.VersionInfo = version, &definition.VersionInfo{LastScalingAt: version, LastConfigChangeAt: version}
	case a.Instances != old.Instances:
		a.Version, a.VersionInfo = version, &definition.VersionInfo{
			LastScalingAt: version, LastConfigChangeAt: old.VersionInfo.LastConfigChangeAt,
		}
	default:
		info := *old.VersionInfo
		a.Version, a.VersionInfo = old.Version, &info
	}
}

// conflicts returns the deployments that touch an app of d.
func (m *Machine) conflicts(d *Deployment) []*Deployment {
	var list []*Deployment
	mine := d.affected()
	for _, other := range m.deployments {
		if other != d && slices.ContainsFunc(other.affected(), func(id string) bool { return slices.Contains(mine, id) }) {
			list = append(list, other)
		}
	}
	return list
}

func (m *Machine) store(d *Deployment, c Change) {
	before, after := maps.Clone(m.groups), m.groupsAfter(c)
	for _, id := range slices.Sorted(maps.Keys(d.Target)) {
		if a := d.Target[id]; a == nil {
			m.removeApp(id)
		} else {
			m.putApp(a)
		}
		m.dirty[id] = true
	}
	for id := range before {
		if _, ok := after[id]; !ok {
			delete(m.groups, id)
			m.changes["group:"+id] = nil
		}
	}
	for id, dependencies := range after {
		m.addGroups(path.Dir(id))
		if was, ok := m.groups[id]; !ok || !slices.Equal(was, dependencies) {
			m.putGroup(id, dependencies)
		}
	}
	m.remember(d, before)
	m.changes["deployment:"+d.ID] = d
}

// cancel ends a deployment where it is.
func (m *Machine) cancel(now time.Time, d *Deployment) {
	m.dropDeployment(d)
	m.emitPlan(now, "deployment_failed", d, map[string]any{"id": d.ID, "reason": "The upgrade has been cancelled"})
}

func (m *Machine) dropDeployment(d *Deployment) {
	m.deployments = slices.DeleteFunc(m.deployments, func(x *Deployment) bool { return x == d })
	m.changes["deployment:"+d.ID] = nil
	for _, id := range d.affected() {
		m.dirty[id] = true
	}
}

// StopDeployment ends a deployment where it is, without undoing anything.
func (m *Machine) StopDeployment(now time.Time, id string) error {
	d := m.deployment(id)
	if d == nil {
		return Refuse(404, "DeploymentPlan %s does not exist", id)
	}
	m.cancel(now, d)
	m.reconcile(now)
	return nil
}

// RevertDeployment starts a deployment that undoes what one has changed, and
// leaves what others have changed since.
func (m *Machine) RevertDeployment(now time.Time, by Request, id string) (*Deployment, error) {
	d := m.deployment(id)
	if d == nil {
		return nil, Refuse(404, "DeploymentPlan %s does not exist", id)
	}
	var c Change
	for app, original := range d.Original {
		switch {
		case original == nil && m.apps[app] != nil:
			c.Delete = append(c.Delete, app)
		case original != nil:
			c.Put = append(c.Put, original.Clone())
		}
	}
	slices.Sort(c.Delete)
	slices.SortFunc(c.Put, func(a, b *definition.App) int { return strings.Compare(a.ID, b.ID) })
	return m.change(now, by, c, true, func() {
		if m.deployment(d.ID) != nil {
			m.cancel(now, d)
		}
	})
}

func (m *Machine) deployment(id string) *Deployment {
	for _, d := range m.deployments {
		if d.ID == id {
			return d
		}
	}
	return nil
}
