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

// groups serves /v2/groups and what is below it.
func (s *Server) groups(q *request, rest []string) answer {
	id := func(k int) string { return "/" + strings.Join(rest[:k], "/") }
	n, get := len(rest), q.method == http.MethodGet
	switch {
	case get && n > 0 && rest[n-1] == "apps":
		return inGroup(q.m.Root(), id(n-1), func(r core.Root, group string) answer {
			views := []core.AppView{}
			apps, _ := r.Below(group)
			for _, app := range apps {
				views = append(views, q.m.View(q.m.App(app), q.embed(core.Embed{Counts: true, Deployments: true})))
			}
			return ok(views)
		})
	case get && n > 0 && rest[n-1] == "versions":
		return inGroup(q.m.Root(), id(n-1), func(_ core.Root, group string) answer {
			versions := []string{}
			for _, r := range q.m.Roots() {
				if r.Has(group) {
					versions = append(versions, r.Version)
				}
			}
			return ok(versions)
		})
	case get && n > 1 && rest[n-2] == "versions":
		r, err := formerRoot(q, rest[n-1])
		if err != nil {
			return wrong(err)
		}
		return inGroup(r, id(n-2), q.showGroup)
	case get:
		return inGroup(q.m.Root(), id(n), q.showGroup)
	}
	switch q.method {
	case http.MethodPost, http.MethodPut:
		return s.putGroup(q, id(n))
	case http.MethodDelete:
		return inGroup(q.m.Root(), id(n), func(_ core.Root, group string) answer {
			d, err := q.m.Change(q.now, q.by, core.Change{Delete: q.m.Apps(group), Drop: []string{group}}, q.flag("force"))
			return q.deployed(http.StatusOK, d, err)
		})
	}
	return q.notAllowed("GET, HEAD, POST, PUT, DELETE")
}

func inGroup(r core.Root, id string, do func(core.Root, string) answer) answer {
	if !r.Has(id) {
		return noGroup(id)
	}
	return do(r, id)
}

// formerRoot returns what was there as of a version, nothing for one that nobody
// knows.
func formerRoot(q *request, version string) (core.Root, error) {
	at, err := parseVersion(version)
	for _, r := range q.m.Roots() {
		if err == nil && r.Version == at {
			return r, nil
		}
	}
	return core.Root{}, err
}

func noGroup(id string) answer {
	return wrong(refusal(http.StatusNotFound, "Group '%s' does not exist", id))
}

func (q *request) showGroup(r core.Root, id string) answer {
	embeds := q.query["embed"]
	apps, groups := len(embeds) == 0, len(embeds) == 0
	for _, e := range embeds {
		apps = apps || strings.HasPrefix(e, "group.apps")
		groups = groups || e == "group.groups"
	}
	return ok(q.m.Group(r, id, apps, groups, q.embed(core.Embed{})))
}

// putGroup makes or changes a group. A list of apps that is given is all that
// the group has then; a key that is not given changes nothing.
func (s *Server) putGroup(q *request, id string) answer {
	o, err := q.object()
	if err != nil {
		return wrong(err)
	}
	if given, is := o["id"].(string); is {
		id = definition.ResolveID(given, id)
	}
	if text := definition.CheckID(id); id != "/" && text != "" {
		return wrong(invalid("/id", text))
	}
	if q.method == http.MethodPost {
		if q.m.App(id) != nil {
			return wrong(refusal(http.StatusConflict, "An app with the path %s already exists.", id))
		}
		if q.m.Root().Has(id) && id != "/" {
			return wrong(refusal(http.StatusConflict, "Group %s is already created. Use PUT to change this group.", id))
		}
	}
	c := core.Change{Groups: map[string][]string{}}
	switch {
	case o["version"] != nil:
		err = revertGroup(q, id, o, &c)
	case o["scaleBy"] != nil:
		err = scaleGroup(q, id, o, &c)
	default:
		err = s.fillGroup(q, id, o, &c)
	}
	if err != nil {
		return wrong(err)
	}
	if q.flag("dryRun") {
		return ok(map[string]any{"steps": q.m.Steps(c)})
	}
	d, err := q.m.Change(q.now, q.by, c, q.flag("force"))
	status := http.StatusOK
	if q.method == http.MethodPost {
		status = http.StatusCreated
		q.header.Set("Location", id)
	}
	return q.deployed(status, d, err)
}

// only refuses a key that is given together with others.
func only(o definition.Object, key string) error {
	for k, v := range o {
		if k != key && v != nil && !emptyList(v) {
			return invalid("/"+key, "not allowed in conjunction with other properties.")
		}
	}
	return nil
}

func invalid(path, text string) error {
	return &definition.InvalidError{Message: "Object is not valid", Problems: []definition.Problem{{Path: path, Errors: []string{text}}}}
}

func scaleGroup(q *request, id string, o definition.Object, c *core.Change) error {
	if err := only(o, "scaleBy"); err != nil {
		return err
	}
	n, is := o["scaleBy"].(json.Number)
	factor, err := n.Float64()
	if !is || err != nil || factor < 0 {
		return &definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{{Path: "/scaleBy", Errors: []string{"error.expected.jsnumber"}}}}
	}
	for _, app := range q.m.Apps(id) {
		a := q.m.App(app).Clone()
		a.Instances = int(math.Ceil(float64(a.Instances) * factor))
		c.Put = append(c.Put, a)
	}
	return nil
}

// revertGroup makes a group what it was as of a version.
func revertGroup(q *request, id string, o definition.Object, c *core.Change) error {
	if err := only(o, "version"); err != nil {
		return err
	}
	version, _ := o["version"].(string)
	then, err := formerRoot(q, version)
	if err != nil {
		return err
	}
	if then.Version == "" || !then.Has(id) {
		return refusal(http.StatusUnprocessableEntity, "Group %s not available in version %s", id, version)
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

func (s *Server) fillGroup(q *request, id string, o definition.Object, c *core.Change) error {
	for _, key := range []string{"version", "scaleBy"} {
		if o[key] != nil {
			return only(o, key)
		}
	}
	c.Groups[id] = nil
	if list, is := o["dependencies"].([]any); is {
		c.Groups[id] = []string{}
		for i, v := range list {
			on, is := v.(string)
			if !is {
				return &definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{{Path: fmt.Sprintf("/dependencies(%d)", i), Errors: []string{"error.expected.jsstring"}}}}
			}
			c.Groups[id] = append(c.Groups[id], definition.ResolveID(on, id))
		}
	} else if o["dependencies"] != nil {
		return notList("/dependencies")
	}
	if apps, is := o["apps"].([]any); is {
		var named []string
		for i, v := range apps {
			one, err := asObject(v, "/apps")
			if err != nil {
				return err
			}
			delete(one, "version")
			delete(one, "versionInfo")
			a, err := s.parse(one, id)
			if err != nil {
				return err
			}
			if path.Dir(a.ID) != id {
				return invalid(fmt.Sprintf("/apps(%d)/id", i), "Identifier is not child of '"+id+"'")
			}
			named = append(named, a.ID)
			c.Put = append(c.Put, a)
		}
		for _, app := range q.m.Apps(id) {
			if path.Dir(app) == id && !slices.Contains(named, app) {
				c.Delete = append(c.Delete, app)
			}
		}
	} else if o["apps"] != nil {
		return notList("/apps")
	}
	groups, is := o["groups"].([]any)
	switch {
	case o["groups"] == nil:
		return nil
	case !is:
		return notList("/groups")
	}
	var named []string
	for i, v := range groups {
		one, err := asObject(v, "/groups")
		if err != nil {
			return err
		}
		given, _ := one["id"].(string)
		child := definition.ResolveID(given, id)
		if path.Dir(child) != id {
			return invalid(fmt.Sprintf("/groups(%d)/id", i), "Identifier is not child of '"+id+"'")
		}
		named = append(named, child)
		if err := s.fillGroup(q, child, one, c); err != nil {
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

func notList(path string) error {
	return &definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{{Path: path, Errors: []string{"error.expected.jsarray"}}}}
}
