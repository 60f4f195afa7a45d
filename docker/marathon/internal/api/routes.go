package api

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// A request is one call that needs the machine. It is answered where the machine
// is owned.
type request struct {
	*Server
	r      *http.Request
	query  url.Values
	body   []byte
	header http.Header // of the answer
	status int         // of the answer
	id     string      // of the app, group or deployment that the path names
	sub    string      // the task or version behind it
	by     core.Request
	m      *core.Machine
	now    time.Time
}

// A handler returns the body of the answer, nil for none.
type handler func(*request) (any, error)

type methods map[string]handler

// order is that of the methods in Allow.
var order = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

type route struct {
	path *regexp.Regexp
	methods
}

// routes are looked at from the first on. Ids hold slashes, which is why these
// are no patterns of http.ServeMux.
var routes = []route{
	at(`/v2/apps`, methods{"GET": (*request).listApps, "POST": (*request).createApp, "PUT": (*request).updateApps, "PATCH": (*request).updateApps}),
	at(`/v2/apps(/.+)/restart`, methods{"POST": (*request).restartApp}),
	at(`/v2/apps(/.+)/tasks`, methods{"GET": (*request).listAppTasks, "DELETE": (*request).killAppTasks}),
	at(`/v2/apps(/.+)/tasks/([^/]+)`, methods{"GET": (*request).showAppTask, "DELETE": (*request).killAppTask}),
	at(`/v2/apps(/.+)/versions`, methods{"GET": (*request).listVersions}),
	at(`/v2/apps(/.+)/versions/([^/]+)`, methods{"GET": (*request).showVersion}),
	at(`/v2/apps(/.*)?/\*`, methods{"GET": (*request).listAppsBelow}),
	at(`/v2/apps(/.+)`, methods{"GET": (*request).showApp, "PUT": (*request).updateApp, "PATCH": (*request).updateApp, "DELETE": (*request).deleteApp}),
	at(`/v2/tasks`, methods{"GET": (*request).listTasks}),
	at(`/v2/tasks/delete`, methods{"POST": (*request).killTasks}),
	at(`/v2/deployments`, methods{"GET": (*request).listDeployments}),
	at(`/v2/deployments(/[^/]+)`, methods{"DELETE": (*request).stopDeployment}),
	at(`/v2/groups(/.+)?`, methods{"GET": (*request).readGroup, "POST": (*request).putGroup, "PUT": (*request).putGroup, "DELETE": (*request).deleteGroup}),
	at(`/v2/queue`, methods{"GET": (*request).listQueue}),
	at(`/v2/queue(/.+)/delay`, methods{"DELETE": (*request).resetDelay}),
	at(`/v2/info`, methods{"GET": (*request).info}),
	at(`/v2/leader`, methods{"GET": (*request).leader, "DELETE": (*request).abdicate}),
	at(`/v2/plugins`, methods{"GET": func(*request) (any, error) { return map[string]any{"plugins": []any{}}, nil }}),
	at(`/v2/events`, methods{"GET": nil}), // see Server.events
	at(`/paasta/agents`, methods{"GET": func(q *request) (any, error) { return map[string]any{"agents": q.m.Agents()}, nil }}),
}

func at(pattern string, m methods) route {
	return route{regexp.MustCompile("^" + pattern + "$"), m}
}

// route finds the handler of a request to a clean path.
func (q *request) route(path string) (any, error) {
	for _, to := range routes {
		match := to.path.FindStringSubmatch(path)
		if match == nil {
			continue
		}
		q.id, q.sub = "/", ""
		if len(match) > 1 && match[1] != "" {
			q.id = match[1]
		}
		if len(match) > 2 {
			q.sub = match[2]
		}
		method := q.r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if handle := to.methods[method]; handle != nil {
			return handle(q)
		}
		var allow []string
		for _, m := range order {
			if _, ok := to.methods[m]; ok {
				allow = append(allow, m)
				if m == http.MethodGet {
					allow = append(allow, http.MethodHead)
				}
			}
		}
		q.header.Set("Allow", strings.Join(append(allow, http.MethodOptions), ", "))
		if method == http.MethodOptions {
			return nil, nil
		}
		return nil, core.Refuse(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	return nil, core.Refuse(http.StatusNotFound, "URI not found: %s", q.r.URL.Path)
}

func (q *request) flag(name string) bool { return strings.EqualFold(q.query.Get(name), "true") }

// deployed answers with the deployment that a call has started.
func (q *request) deployed(d *core.Deployment, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	q.header.Set("Marathon-Deployment-Id", d.ID)
	return map[string]string{"version": d.Version, "deploymentId": d.ID}, nil
}
