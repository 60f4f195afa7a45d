package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// app returns the app that the path names.
func (q *request) app() (*definition.App, error) {
	if a := q.m.App(q.id); a != nil {
		return a, nil
	}
	return nil, core.Refuse(http.StatusNotFound, "App '%s' does not exist", q.id)
}

// embed reads the embed parameters over what is shown anyway.
func (q *request) embed(e core.Embed) core.Embed {
	for _, v := range q.query["embed"] {
		what := v[strings.LastIndex(v, ".")+1:]
		e.Counts = e.Counts || what == "counts"
		e.Readiness = e.Readiness || what == "readiness"
		e.TaskStats = e.TaskStats || what == "taskStats"
		e.LastTaskFailure = e.LastTaskFailure || what == "lastTaskFailure" || what == "failures"
		e.Tasks = e.Tasks || what == "tasks" || what == "failures"
		e.Deployments = e.Deployments || what == "deployments" || what == "tasks" || what == "failures"
	}
	return e
}

// whole is what one app is shown with.
var whole = core.Embed{Counts: true, Tasks: true, LastTaskFailure: true, Deployments: true}

func (q *request) views(ids []string, e core.Embed) []core.AppView {
	views := []core.AppView{}
	for _, id := range ids {
		views = append(views, q.m.View(q.m.App(id), q.embed(e)))
	}
	return views
}

func (q *request) listApps() (any, error) {
	selected := func(map[string]string) bool { return true }
	if text := q.query.Get("label"); text != "" {
		var err error
		if selected, err = parseSelector(text); err != nil {
			return nil, core.Refuse(http.StatusUnprocessableEntity, "Can not parse label selector '%s': %v", text, err)
		}
	}
	contains := func(text, param string) bool {
		return strings.Contains(strings.ToLower(text), strings.ToLower(q.query.Get(param)))
	}
	var ids []string
	for _, id := range q.m.Apps("/") {
		a := q.m.App(id)
		runs := q.query.Get("cmd") == "" || a.Cmd != nil && contains(*a.Cmd, "cmd")
		if runs && contains(id, "id") && selected(a.Labels) {
			ids = append(ids, id)
		}
	}
	return map[string]any{"apps": q.views(ids, core.Embed{Counts: true, Deployments: true})}, nil
}

func (q *request) listAppsBelow() (any, error) {
	return map[string]any{"*": q.views(q.m.Apps(q.id), whole)}, nil
}

func (q *request) showApp() (any, error) {
	a, err := q.app()
	if err != nil {
		return nil, err
	}
	return map[string]any{"app": q.m.View(a, q.embed(whole))}, nil
}

// object decodes the body.
func (q *request) object() (definition.Object, error) {
	v, err := definition.Decode(q.body)
	if err != nil {
		return nil, err
	}
	return asObject(v, "/")
}

func asObject(v any, path string) (definition.Object, error) {
	o, is := v.(definition.Object)
	if !is {
		return nil, definition.InvalidJSON(path, "error.expected.jsobject")
	}
	return o, nil
}

// parse makes a definition of a decoded one, as seen from a group.
func (q *request) parse(o definition.Object, base string) (*definition.App, error) {
	a, err := definition.Parse(o, base)
	if err != nil {
		return nil, err
	}
	if problems := q.Check(a); len(problems) > 0 {
		return nil, &definition.InvalidError{Message: "Object is not valid", Problems: problems}
	}
	return a, nil
}

// put changes apps, or makes them.
func (q *request) put(apps ...*definition.App) (*core.Deployment, error) {
	return q.m.Change(q.now, q.by, core.Change{Put: apps}, q.flag("force"))
}

func (q *request) createApp() (any, error) {
	o, err := q.object()
	if err != nil {
		return nil, err
	}
	a, err := q.parse(o, "/")
	if err != nil {
		return nil, err
	}
	if q.m.App(a.ID) != nil {
		return nil, core.Refuse(http.StatusConflict, "An app with id [%s] already exists.", a.ID)
	}
	d, err := q.put(a)
	if err != nil {
		return nil, err
	}
	q.created(a.ID, d)
	shown := *a
	shown.VersionInfo = nil
	zero := 0
	return core.AppView{
		App: &shown, TasksStaged: &zero, TasksRunning: &zero, TasksHealthy: &zero, TasksUnhealthy: &zero,
		Deployments: &[]map[string]string{{"id": d.ID}},
	}, nil
}

func (q *request) created(id string, d *core.Deployment) {
	q.status = http.StatusCreated
	q.header.Set("Location", id)
	q.header.Set("Marathon-Deployment-Id", d.ID)
}

func (q *request) deleteApp() (any, error) {
	if _, err := q.app(); err != nil {
		return nil, err
	}
	// The one place where force is the default.
	force := q.query.Get("force") == "" || q.flag("force")
	return q.deployed(q.m.Change(q.now, q.by, core.Change{Delete: []string{q.id}}, force))
}

func (q *request) restartApp() (any, error) {
	if _, err := q.app(); err != nil {
		return nil, err
	}
	return q.deployed(q.m.Change(q.now, q.by, core.Change{Restart: []string{q.id}}, q.flag("force")))
}

func (q *request) updateApp() (any, error) {
	o, err := q.object()
	if err != nil {
		return nil, err
	}
	if _, missing := q.app(); missing != nil && q.r.Method == http.MethodPatch {
		return nil, missing
	}
	a, err := q.updated(q.id, o)
	if err != nil {
		return nil, err
	}
	isNew := q.m.App(a.ID) == nil
	d, err := q.put(a)
	if err == nil && isNew {
		q.created(a.ID, d)
		return map[string]string{"version": a.Version, "deploymentId": d.ID}, nil
	}
	return q.deployed(d, err)
}

func (q *request) updateApps() (any, error) {
	v, err := definition.Decode(q.body)
	if err != nil {
		return nil, err
	}
	list, is := v.([]any)
	if !is {
		return nil, definition.InvalidJSON("/", "error.expected.jsarray")
	}
	var apps []*definition.App
	for _, v := range list {
		o, err := asObject(v, "/")
		if err != nil {
			return nil, err
		}
		given, _ := o["id"].(string)
		if given == "" {
			return nil, definition.InvalidJSON("/id", "error.path.missing")
		}
		a, err := q.updated(definition.ResolveID(given, "/"), o)
		if err != nil {
			return nil, err
		}
		apps = append(apps, a)
	}
	return q.deployed(q.put(apps...))
}

// updated returns what an app would be after an update.
func (q *request) updated(id string, o definition.Object) (*definition.App, error) {
	if given, is := o["id"].(string); is && definition.ResolveID(given, "/") != id {
		return nil, definition.Invalid("/id", "must be %s, as in the path", id)
	}
	if o["version"] != nil {
		if !only(o, "version", "id") {
			return nil, definition.Invalid("/", "The 'version' field may only be combined with the 'id' field.")
		}
		version, _ := o["version"].(string)
		return q.former(id, version)
	}
	partial := q.r.Method == http.MethodPatch || q.query.Get("partialUpdate") == "" || q.flag("partialUpdate")
	if current := q.m.App(id); current != nil && partial {
		o = definition.Merge(current, o)
	}
	o["id"] = id
	return q.parse(o, "/")
}

// only tells whether nothing but these keys is given. go-marathon sends empty
// lists for what was not set.
func only(o definition.Object, keys ...string) bool {
	for k, v := range o {
		list, is := v.([]any)
		if v != nil && (!is || len(list) > 0) && !slices.Contains(keys, k) {
			return false
		}
	}
	return true
}

// former returns an app as it was in a version.
func (q *request) former(id, version string) (*definition.App, error) {
	at, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	for _, a := range q.m.Versions(id) {
		if a.Version == at {
			return a.Clone(), nil
		}
	}
	return nil, core.Refuse(http.StatusNotFound, "App '%s' does not exist in version %s", id, version)
}

// parseVersion returns a version as core writes it.
func parseVersion(version string) (string, error) {
	at, err := time.Parse(time.RFC3339Nano, version)
	if err != nil {
		return "", core.Refuse(http.StatusUnprocessableEntity, "Invalid timestamp provided '%s'. Expecting ISO-8601 datetime string.", version)
	}
	return core.Timestamp(at), nil
}

func (q *request) listVersions() (any, error) {
	if _, err := q.app(); err != nil {
		return nil, err
	}
	list := []string{}
	for _, a := range q.m.Versions(q.id) {
		list = append(list, a.Version)
	}
	return map[string]any{"versions": list}, nil
}

func (q *request) showVersion() (any, error) {
	a, err := q.former(q.id, q.sub)
	return a, err
}
