package api

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// group returns what there is now, with the group that the path names.
func (q *request) group() (core.Root, error) { return has(q.m.Root(), q.id) }

func has(r core.Root, group string) (core.Root, error) {
	if r.Has(group) {
		return r, nil
	}
	return r, core.Refuse(http.StatusNotFound, "Group '%s' does not exist", group)
}

// readGroup shows a group, or what the end of the path asks for.
func (q *request) readGroup() (any, error) {
	id, last := path.Split(q.id)
	above, key := path.Split(path.Clean(id))
	r := q.m.Root()
	var err error
	switch {
	case last == "apps", last == "versions":
		q.id = path.Clean(id)
	case key == "versions":
		q.id = path.Clean(above)
		if r, err = q.formerRoot(last); err != nil {
			return nil, err
		}
	}
	if r, err = has(r, q.id); err != nil {
		return nil, err
	}
	switch last {
	case "apps":
		return q.views(q.m.Apps(q.id), core.Embed{Counts: true, Deployments: true}), nil
	case "versions":
		versions := []string{}
		for _, r := range q.m.Roots() {
			if r.Has(q.id) {
				versions = append(versions, r.Version)
			}
		}
		return versions, nil
	}
	embeds := q.query["embed"]
	apps, groups := len(embeds) == 0, len(embeds) == 0
	for _, e := range embeds {
		apps = apps || strings.HasPrefix(e, "group.apps")
		groups = groups || e == "group.groups"
	}
	return q.m.Group(r, q.id, apps, groups, q.embed(core.Embed{})), nil
}

// formerRoot returns what was there as of a version, nothing for one that nobody
// knows.
func (q *request) formerRoot(version string) (core.Root, error) {
	at, err := parseVersion(version)
	for _, r := range q.m.Roots() {
		if err == nil && r.Version == at {
			return r, nil
		}
	}
	return core.Root{}, err
}

func (q *request) deleteGroup() (any, error) {
	if _, err := q.group(); err != nil {
		return nil, err
	}
	return q.deployed(q.m.Change(q.now, q.by, core.Change{Delete: q.m.Apps(q.id), Drop: []string{q.id}}, q.flag("force")))
}

// putGroup makes or changes a group. A list of apps that is given is all that
// the group has then; a key that is not given changes nothing.
func (q *request) putGroup() (any, error) {
	o, err := q.object()
	if err != nil {
		return nil, err
	}
	id := q.id
	if given, is := o["id"].(string); is {
		id = definition.ResolveID(given, id)
	}
	if text := definition.CheckID(id); id != "/" && text != "" {
		return nil, definition.Invalid("/id", "%s", text)
	}
	if q.r.Method == http.MethodPost {
		if q.m.App(id) != nil {
			return nil, core.Refuse(http.StatusConflict, "An app with the path %s already exists.", id)
		}
		if q.m.Root().Has(id) && id != "/" {
			return nil, core.Refuse(http.StatusConflict, "Group %s is already created. Use PUT to change this group.", id)
		}
	}
	c := core.Change{Groups: map[string][]string{}}
	switch {
	case o["version"] != nil:
		err = q.revertGroup(id, o, &c)
	case o["scaleBy"] != nil:
		err = q.scaleGroup(id, o, &c)
	default:
		err = q.fillGroup(id, o, &c)
	}
	if err != nil {
		return nil, err
	}
	if q.flag("dryRun") {
		return map[string]any{"steps": q.m.Steps(c)}, nil
	}
	d, err := q.m.Change(q.now, q.by, c, q.flag("force"))
	if err == nil && q.r.Method == http.MethodPost {
		q.created(id, d)
	}
	return q.deployed(d, err)
}

// alone refuses a key that is given together with others.
func alone(o definition.Object, key string) error {
	if only(o, key) {
		return nil
	}
	return definition.Invalid("/"+key, "not allowed in conjunction with other properties.")
}

func (q *request) scaleGroup(id string, o definition.Object, c *core.Change) error {
	if err := alone(o, "scaleBy"); err != nil {
		return err
	}
	n, is := o["scaleBy"].(json.Number)
	factor, err := n.Float64()
	if !is || err != nil || factor < 0 {
		return definition.InvalidJSON("/scaleBy", "error.expected.jsnumber")
	}
	for _, app := range q.m.Apps(id) {
		a := q.m.App(app).Clone()
		a.Instances = int(math.Ceil(float64(a.Instances) * factor))
		c.Put = append(c.Put, a)
	}
	return nil
}

// revertGroup makes a group what it was as of a version.
func (q *request) revertGroup(id string, o definition.Object, c *core.Change) error {
	if err := alone(o, "version"); err != nil {
		return err
	}
	version, _ := o["version"].(string)
	then, err := q.formerRoot(version)
	if err != nil {
		return err
	}
	if then.Version == "" || !then.Has(id) {
		return core.Refuse(http.StatusUnprocessableEntity, "Group %s not available in version %s", id, version)
	}
	apps, groups := then.Below(id)
	for _, app := range apps {
		c.Put = append(c.Put, then.Apps[app].Clone())
	}
	for _, g := range groups {
		c.Groups[g] = append([]string{}, then.Groups[g]...)
	}
	apps, groups = q.m.Root().Below(id)
	for _, app := range apps {
		if then.Apps[app] == nil {
			c.Delete = append(c.Delete, app)
		}
	}
	for _, g := range groups {
		if !then.Has(g) {
			c.Drop = append(c.Drop, g)
		}
	}
	return nil
}

func (q *request) fillGroup(id string, o definition.Object, c *core.Change) error {
	for _, key := range []string{"version", "scaleBy"} {
		if o[key] != nil {
			return alone(o, key)
		}
	}
	c.Groups[id] = nil
	dependencies, err := list(o, "dependencies")
	if err != nil {
		return err
	}
	if dependencies != nil {
		c.Groups[id] = []string{}
	}
	for i, v := range dependencies {
		on, is := v.(string)
		if !is {
			return definition.InvalidJSON(fmt.Sprintf("/dependencies(%d)", i), "error.expected.jsstring")
		}
		c.Groups[id] = append(c.Groups[id], definition.ResolveID(on, id))
	}
	if err := q.fillApps(id, o, c); err != nil {
		return err
	}
	groups, err := list(o, "groups")
	if groups == nil {
		return err
	}
	named := []string{}
	for i, v := range groups {
		one, err := asObject(v, "/groups")
		if err != nil {
			return err
		}
		given, _ := one["id"].(string)
		child := definition.ResolveID(given, id)
		if path.Dir(child) != id {
			return definition.Invalid(fmt.Sprintf("/groups(%d)/id", i), "Identifier is not child of '%s'", id)
		}
		named = append(named, child)
		if err := q.fillGroup(child, one, c); err != nil {
			return err
		}
	}
	kept := func(g string) bool {
		return g == id || slices.ContainsFunc(named, func(n string) bool { return g == n || strings.HasPrefix(g, n+"/") })
	}
	apps, below := q.m.Root().Below(id)
	for _, app := range apps {
		if !kept(path.Dir(app)) {
			c.Delete = append(c.Delete, app)
		}
	}
	for _, g := range below {
		if !kept(g) {
			c.Drop = append(c.Drop, g)
		}
	}
	return nil
}

// fillApps makes a group's own apps those that are listed.
func (q *request) fillApps(id string, o definition.Object, c *core.Change) error {
	apps, err := list(o, "apps")
	if apps == nil {
		return err
	}
	var named []string
	for i, v := range apps {
		one, err := asObject(v, "/apps")
		if err != nil {
			return err
		}
		a, err := q.parse(one, id)
		if err != nil {
			return err
		}
		if path.Dir(a.ID) != id {
			return definition.Invalid(fmt.Sprintf("/apps(%d)/id", i), "Identifier is not child of '%s'", id)
		}
		named = append(named, a.ID)
		c.Put = append(c.Put, a)
	}
	for _, app := range q.m.Apps(id) {
		if path.Dir(app) == id && !slices.Contains(named, app) {
			c.Delete = append(c.Delete, app)
		}
	}
	return nil
}

// list returns a list of a group, nil when it is not given.
func list(o definition.Object, key string) ([]any, error) {
	l, is := o[key].([]any)
	if !is && o[key] != nil {
		return nil, definition.InvalidJSON("/"+key, "error.expected.jsarray")
	}
	return l, nil
}
