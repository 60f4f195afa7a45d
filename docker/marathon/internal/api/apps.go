package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// apps serves /v2/apps and what is below it. Ids hold slashes: what the path
// ends with is looked at first.
func (s *Server) apps(q *request, rest []string) answer {
	n := len(rest)
	if n == 0 {
		switch q.method {
		case http.MethodGet:
			return s.listApps(q)
		case http.MethodPost:
			return s.createApp(q)
		case http.MethodPut, http.MethodPatch:
			return s.updateApps(q)
		}
		return q.notAllowed("GET, HEAD, POST, PUT, PATCH")
	}
	id := func(k int) string { return "/" + strings.Join(rest[:k], "/") }
	switch {
	case rest[n-1] == "restart" && n > 1:
		return s.restart(q, id(n-1))
	case rest[n-1] == "tasks" && n > 1:
		return s.appTasks(q, id(n-1))
	case n > 2 && rest[n-2] == "tasks":
		return s.appTask(q, id(n-2), rest[n-1])
	case rest[n-1] == "versions" && n > 1:
		return s.versions(q, id(n-1))
	case n > 2 && rest[n-2] == "versions":
		return s.version(q, id(n-2), rest[n-1])
	case rest[n-1] == "*" && q.method == http.MethodGet:
		return s.appsBelow(q, id(n-1))
	}
	return s.app(q, id(n))
}

func noApp(id string) answer {
	return wrong(refusal(http.StatusNotFound, "App '%s' does not exist", id))
}

// embed reads the embed parameters over what is shown anyway.
func (q *request) embed(e core.Embed) core.Embed {
	for _, v := range q.query["embed"] {
		switch v[strings.LastIndex(v, ".")+1:] {
		case "tasks":
			e.Tasks, e.Deployments = true, true
		case "counts":
			e.Counts = true
		case "deployments":
			e.Deployments = true
		case "readiness":
			e.Readiness = true
		case "lastTaskFailure":
			e.LastTaskFailure = true
		case "failures":
			e.LastTaskFailure, e.Tasks, e.Deployments = true, true, true
		case "taskStats":
			e.TaskStats = true
		}
	}
	return e
}

func (s *Server) listApps(q *request) answer {
	selected := func(map[string]string) bool { return true }
	if text := q.query.Get("label"); text != "" {
		var err error
		if selected, err = parseSelector(text); err != nil {
			return wrong(refusal(http.StatusUnprocessableEntity, "Can not parse label selector '%s': %v", text, err))
		}
	}
	cmd, part := strings.ToLower(q.query.Get("cmd")), strings.ToLower(q.query.Get("id"))
	e := q.embed(core.Embed{Counts: true, Deployments: true})
	views := []core.AppView{}
	for _, id := range q.m.Apps("/") {
		a := q.m.App(id)
		switch {
		case part != "" && !strings.Contains(strings.ToLower(id), part):
		case cmd != "" && (a.Cmd == nil || !strings.Contains(strings.ToLower(*a.Cmd), cmd)):
		case !selected(a.Labels):
		default:
			views = append(views, q.m.View(a, e))
		}
	}
	return ok(map[string]any{"apps": views})
}

func (s *Server) appsBelow(q *request, group string) answer {
	e := q.embed(core.Embed{Counts: true, Tasks: true, LastTaskFailure: true, Deployments: true})
	views := []core.AppView{}
	for _, id := range q.m.Apps(group) {
		views = append(views, q.m.View(q.m.App(id), e))
	}
	return ok(map[string]any{"*": views})
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
	o, is := v.(map[string]any)
	if !is {
		return nil, &definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{
			{Path: path, Errors: []string{"error.expected.jsobject"}},
		}}
	}
	return o, nil
}

// parse makes a definition of a decoded one, as seen from a group.
func (s *Server) parse(o definition.Object, base string) (*definition.App, error) {
	a, err := definition.Parse(o, base)
	if err != nil {
		return nil, err
	}
	if problems := s.Check(a); len(problems) > 0 {
		return nil, &definition.InvalidError{Message: "Object is not valid", Problems: problems}
	}
	return a, nil
}

func (s *Server) createApp(q *request) answer {
	o, err := q.object()
	if err != nil {
		return wrong(err)
	}
	a, err := s.parse(o, "/")
	if err != nil {
		return wrong(err)
	}
	if q.m.App(a.ID) != nil {
		return wrong(refusal(http.StatusConflict, "An app with id [%s] already exists.", a.ID))
	}
	return s.create(q, a)
}

func (s *Server) create(q *request, a *definition.App) answer {
	d, err := q.m.Change(q.now, q.by, core.Change{Put: []*definition.App{a}}, q.flag("force"))
	if err != nil {
		return wrong(err)
	}
	q.header.Set("Marathon-Deployment-Id", d.ID)
	q.header.Set("Location", a.ID)
	shown := *a
	shown.VersionInfo = nil
	zero := 0
	return answer{status: http.StatusCreated, body: core.AppView{
		App: &shown, TasksStaged: &zero, TasksRunning: &zero, TasksHealthy: &zero, TasksUnhealthy: &zero,
		Deployments: &[]map[string]string{{"id": d.ID}},
	}}
}

func (s *Server) app(q *request, id string) answer {
	a := q.m.App(id)
	switch q.method {
	case http.MethodGet:
		if a == nil {
			return noApp(id)
		}
		e := q.embed(core.Embed{Counts: true, Tasks: true, LastTaskFailure: true, Deployments: true})
		return ok(map[string]any{"app": q.m.View(a, e)})
	case http.MethodPut, http.MethodPatch:
		return s.updateApp(q, id)
	case http.MethodDelete:
		if a == nil {
			return noApp(id)
		}
		// The one place where force is the default.
		force := q.query.Get("force") == "" || q.flag("force")
		d, err := q.m.Change(q.now, q.by, core.Change{Delete: []string{id}}, force)
		return q.deployed(http.StatusOK, d, err)
	}
	return q.notAllowed("GET, HEAD, PUT, PATCH, DELETE")
}

func (s *Server) updateApp(q *request, id string) answer {
	o, err := q.object()
	if err != nil {
		return wrong(err)
	}
	current := q.m.App(id)
	if current == nil && q.method == http.MethodPatch {
		return noApp(id)
	}
	a, err := s.updated(q, id, o)
	if err != nil {
		return wrong(err)
	}
	if current == nil {
		answer := s.create(q, a)
		if answer.err == nil {
			v := answer.body.(core.AppView)
			answer.body = map[string]string{"version": v.Version, "deploymentId": (*v.Deployments)[0]["id"]}
		}
		return answer
	}
	d, err := q.m.Change(q.now, q.by, core.Change{Put: []*definition.App{a}}, q.flag("force"))
	return q.deployed(http.StatusOK, d, err)
}

// updated returns what an app would be after an update.
func (s *Server) updated(q *request, id string, o definition.Object) (*definition.App, error) {
	if given, is := o["id"].(string); is && definition.ResolveID(given, "/") != id {
		return nil, invalid("/id", "must be "+id+", as in the path")
	}
	if o["version"] != nil {
		return s.former(q, id, o)
	}
	current := q.m.App(id)
	partial := q.method == http.MethodPatch || q.query.Get("partialUpdate") == "" || q.flag("partialUpdate")
	if current != nil && partial {
		o = definition.Merge(current, o)
	}
	o["id"] = id
	return s.parse(o, "/")
}

// former returns the version of an app that a rollback names.
func (s *Server) former(q *request, id string, o definition.Object) (*definition.App, error) {
	for key, v := range o {
		if key != "id" && key != "version" && v != nil && !emptyList(v) {
			return nil, invalid("/", "The 'version' field may only be combined with the 'id' field.")
		}
	}
	version, _ := o["version"].(string)
	return findVersion(q, id, version)
}

// emptyList is what go-marathon sends for lists that were not set.
func emptyList(v any) bool {
	l, is := v.([]any)
	return is && len(l) == 0
}

func findVersion(q *request, id, version string) (*definition.App, error) {
	at, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	for _, a := range q.m.Versions(id) {
		if a.Version == at {
			return a.Clone(), nil
		}
	}
	return nil, refusal(http.StatusNotFound, "App '%s' does not exist in version %s", id, version)
}

// parseVersion returns a version as core writes it.
func parseVersion(version string) (string, error) {
	at, err := time.Parse(time.RFC3339Nano, version)
	if err != nil {
		return "", refusal(http.StatusUnprocessableEntity, "Invalid timestamp provided '%s'. Expecting ISO-8601 datetime string.", version)
	}
	return core.Timestamp(at), nil
}

func (s *Server) updateApps(q *request) answer {
	v, err := definition.Decode(q.body)
	if err != nil {
		return wrong(err)
	}
	list, is := v.([]any)
	if !is {
		return wrong(&definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{
			{Path: "/", Errors: []string{"error.expected.jsarray"}},
		}})
	}
	var c core.Change
	for _, v := range list {
		o, err := asObject(v, "/")
		if err != nil {
			return wrong(err)
		}
		given, _ := o["id"].(string)
		if given == "" {
			return wrong(&definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{
				{Path: "/id", Errors: []string{"error.path.missing"}},
			}})
		}
		a, err := s.updated(q, definition.ResolveID(given, "/"), o)
		if err != nil {
			return wrong(err)
		}
		c.Put = append(c.Put, a)
	}
	d, err := q.m.Change(q.now, q.by, c, q.flag("force"))
	return q.deployed(http.StatusOK, d, err)
}

func (s *Server) restart(q *request, id string) answer {
	if q.method != http.MethodPost {
		return q.notAllowed("POST")
	}
	if q.m.App(id) == nil {
		return noApp(id)
	}
	d, err := q.m.Change(q.now, q.by, core.Change{Restart: []string{id}}, q.flag("force"))
	return q.deployed(http.StatusOK, d, err)
}

func (s *Server) versions(q *request, id string) answer {
	if q.method != http.MethodGet {
		return q.notAllowed("GET, HEAD")
	}
	if q.m.App(id) == nil {
		return noApp(id)
	}
	list := []string{}
	for _, a := range q.m.Versions(id) {
		list = append(list, a.Version)
	}
	return ok(map[string]any{"versions": list})
}

func (s *Server) version(q *request, id, version string) answer {
	if q.method != http.MethodGet {
		return q.notAllowed("GET, HEAD")
	}
	a, err := findVersion(q, id, version)
	if err != nil {
		return wrong(err)
	}
	return ok(a)
}

func (s *Server) appTasks(q *request, id string) answer {
	group, all := strings.CutSuffix(id, "/*")
	text := q.wantsText() && q.method == http.MethodGet
	switch {
	case q.method != http.MethodGet && q.method != http.MethodDelete:
		return q.notAllowed("GET, HEAD, DELETE")
	case all && q.method == http.MethodGet && !text:
		views := []core.TaskView{}
		for _, app := range q.m.Apps(max(group, "/")) {
			views = append(views, q.m.Tasks(app)...)
		}
		return ok(map[string]any{"tasks": views})
	case q.m.App(id) == nil:
		return noApp(id)
	case text:
		return ok(endpoints(q.m, []string{id}))
	case q.method == http.MethodGet:
		return ok(map[string]any{"tasks": q.m.Tasks(id)})
	}
	var ids []string
	for _, t := range q.m.Tasks(id) {
		if host := q.query.Get("host"); host == "" || host == t.Host {
			ids = append(ids, t.ID)
		}
	}
	return s.kill(q, ids, func(views []core.TaskView) any { return map[string]any{"tasks": views} })
}

func (s *Server) appTask(q *request, id, taskID string) answer {
	if q.method != http.MethodGet && q.method != http.MethodDelete {
		return q.notAllowed("GET, HEAD, DELETE")
	}
	if q.m.App(id) == nil {
		return noApp(id)
	}
	i := slices.IndexFunc(q.m.Tasks(id), func(t core.TaskView) bool { return t.ID == taskID })
	if i < 0 {
		return wrong(refusal(http.StatusNotFound, "Task '%s' does not exist", taskID))
	}
	if q.method == http.MethodGet {
		return ok(map[string]any{"task": q.m.Tasks(id)[i]})
	}
	return s.kill(q, []string{taskID}, func(views []core.TaskView) any { return map[string]any{"task": views[0]} })
}
