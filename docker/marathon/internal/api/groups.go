package api

import (
	"encoding/json"
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
	if n := len(rest); n > 0 && q.method == http.MethodGet {
		switch rest[n-1] {
		case "apps":
			group := "/" + strings.Join(rest[:n-1], "/")
			if !q.m.HasGroup(group) {
				return noGroup(group)
			}
			views := []core.AppView{}
			for _, id := range q.m.Apps(group) {
				views = append(views, q.m.View(q.m.App(id), q.embed(core.Embed{Counts: true, Deployments: true})))
			}
			return ok(views)
		case "versions":
			group := "/" + strings.Join(rest[:n-1], "/")
			if !q.m.HasGroup(group) {
				return noGroup(group)
			}
			return ok([]string{q.m.Group(group, false, false, core.Embed{})["version"].(string)})
		}
	}
	id := "/" + strings.Join(rest, "/")
	switch q.method {
	case http.MethodGet:
		if !q.m.HasGroup(id) {
			return noGroup(id)
		}
		return s.showGroup(q, id)
	case http.MethodPost, http.MethodPut:
		return s.putGroup(q, id)
	case http.MethodDelete:
		if !q.m.HasGroup(id) {
			return noGroup(id)
		}
		d, err := q.m.Change(q.now, q.by, core.Change{Delete: q.m.Apps(id), Drop: []string{id}}, q.flag("force"))
		return q.deployed(http.StatusOK, d, err)
	}
	return notAllowed()
}

func noGroup(id string) answer {
	return wrong(refusal(http.StatusNotFound, "Group '%s' does not exist", id))
}

func (s *Server) showGroup(q *request, id string) answer {
	embeds := q.query["embed"]
	apps, groups := len(embeds) == 0, len(embeds) == 0
	for _, e := range embeds {
		apps = apps || strings.HasPrefix(e, "group.apps")
		groups = groups || e == "group.groups"
	}
	return ok(q.m.Group(id, apps, groups, q.embed(core.Embed{})))
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
		return wrong(&definition.InvalidError{Message: "Object is not valid", Problems: []definition.Problem{{Path: "/id", Errors: []string{text}}}})
	}
	if q.method == http.MethodPost {
		if q.m.App(id) != nil {
			return wrong(refusal(http.StatusConflict, "An app with the path %s already exists.", id))
		}
		if q.m.HasGroup(id) && id != "/" {
			return wrong(refusal(http.StatusConflict, "Group %s is already created. Use PUT to change this group.", id))
		}
	}
	var c core.Change
	if o["scaleBy"] != nil {
		err = s.scaleGroup(q, id, o, &c)
	} else {
		err = s.fillGroup(q, id, o, &c)
	}
	if err != nil {
		return wrong(err)
	}
	if q.flag("dryRun") {
		old, target, all := map[string]*definition.App{}, map[string]*definition.App{}, map[string]*definition.App{}
		for _, app := range q.m.Apps("/") {
			all[app] = q.m.App(app)
		}
		for _, a := range c.Put {
			old[a.ID], target[a.ID], all[a.ID] = q.m.App(a.ID), a, a
		}
		for _, app := range c.Delete {
			old[app], target[app] = q.m.App(app), nil
			delete(all, app)
		}
		steps := core.Plan(old, target, nil, all)
		if steps == nil {
			steps = []core.Step{}
		}
		return ok(map[string]any{"steps": steps})
	}
	d, err := q.m.Change(q.now, q.by, c, q.flag("force"))
	status := http.StatusOK
	if q.method == http.MethodPost {
		status = http.StatusCreated
		q.header.Set("Location", id)
	}
	return q.deployed(status, d, err)
}

func (s *Server) scaleGroup(q *request, id string, o definition.Object, c *core.Change) error {
	for key, v := range o {
		if key != "id" && key != "scaleBy" && v != nil && !emptyList(v) {
			return refusal(http.StatusUnprocessableEntity, "scaleBy is not allowed in conjunction with other properties.")
		}
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

func (s *Server) fillGroup(q *request, id string, o definition.Object, c *core.Change) error {
	c.Groups = append(c.Groups, id)
	for _, key := range []string{"version", "dependencies"} {
		if v := o[key]; v != nil && !emptyList(v) {
			return refusal(http.StatusUnprocessableEntity, "paasta marathon keeps no %s of groups: only of apps", key)
		}
	}
	if apps, is := o["apps"].([]any); is {
		var named []string
		for _, v := range apps {
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
				return refusal(http.StatusUnprocessableEntity, "app %s is not in the group %s", a.ID, id)
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
		return refusal(http.StatusUnprocessableEntity, "apps is no list")
	}
	groups, is := o["groups"].([]any)
	if !is {
		return nil
	}
	var named []string
	for _, v := range groups {
		one, err := asObject(v, "/groups")
		if err != nil {
			return err
		}
		given, _ := one["id"].(string)
		child := definition.ResolveID(given, id)
		if path.Dir(child) != id {
			return refusal(http.StatusUnprocessableEntity, "group %s is not in the group %s", child, id)
		}
		named = append(named, child)
		if err := s.fillGroup(q, child, one, c); err != nil {
			return err
		}
	}
	for _, app := range q.m.Apps(id) {
		if dir := path.Dir(app); dir != id && !slices.ContainsFunc(named, func(g string) bool { return dir == g || strings.HasPrefix(dir, g+"/") }) {
			c.Delete = append(c.Delete, app)
		}
	}
	return nil
}
