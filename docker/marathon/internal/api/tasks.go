package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

func tasks(views []core.TaskView) any {
	return map[string]any{"tasks": append([]core.TaskView{}, views...)}
}

func (q *request) listTasks() (any, error) {
	if q.wantsText() {
		return endpoints(q.m, q.m.Apps("/")), nil
	}
	var states []string
	for _, state := range append(q.query["status"], q.query["status[]"]...) {
		if s := "TASK_" + strings.ToUpper(state); s == core.Running || s == core.Staging {
			states = append(states, s)
		}
	}
	return tasks(slices.DeleteFunc(q.m.Tasks(""), func(t core.TaskView) bool { return states != nil && !slices.Contains(states, t.State) })), nil
}

func (q *request) listAppTasks() (any, error) {
	group, all := strings.CutSuffix(q.id, "/*")
	if all && !q.wantsText() {
		var views []core.TaskView
		for _, app := range q.m.Apps(max(group, "/")) {
			views = append(views, q.m.Tasks(app)...)
		}
		return tasks(views), nil
	}
	if _, err := q.app(); err != nil {
		return nil, err
	}
	if q.wantsText() {
		return endpoints(q.m, []string{q.id}), nil
	}
	return tasks(q.m.Tasks(q.id)), nil
}

func (q *request) killAppTasks() (any, error) {
	if _, err := q.app(); err != nil {
		return nil, err
	}
	var ids []string
	for _, t := range q.m.Tasks(q.id) {
		if host := q.query.Get("host"); host == "" || host == t.Host {
			ids = append(ids, t.ID)
		}
	}
	return q.kill(ids, tasks)
}

func (q *request) showAppTask() (any, error) {
	if _, err := q.app(); err != nil {
		return nil, err
	}
	for _, t := range q.m.Tasks(q.id) {
		if t.ID == q.sub {
			return map[string]any{"task": t}, nil
		}
	}
	return nil, core.Refuse(http.StatusNotFound, "Task '%s' does not exist", q.sub)
}

func (q *request) killAppTask() (any, error) {
	if _, err := q.showAppTask(); err != nil {
		return nil, err
	}
	return q.kill([]string{q.sub}, func(views []core.TaskView) any { return map[string]any{"task": views[0]} })
}

func (q *request) killTasks() (any, error) {
	if _, err := definition.Decode(q.body); err != nil {
		return nil, err
	}
	var body struct {
		IDs *[]string `json:"ids"`
	}
	if err := json.Unmarshal(q.body, &body); err != nil || body.IDs == nil {
		return nil, definition.InvalidJSON("/ids", "error.expected.jsarray")
	}
	for _, id := range *body.IDs {
		if core.AppOfTask(id) == "" {
			return nil, core.Refuse(http.StatusBadRequest, "Invalid task id '%s'. [a task id is <app id>.<uuid>]", id)
		}
	}
	return q.kill(*body.IDs, tasks)
}

// kill kills tasks in the way the query says, and shows them, or the deployment
// that it makes.
func (q *request) kill(ids []string, show func([]core.TaskView) any) (any, error) {
	scale := q.flag("scale")
	if scale && q.flag("wipe") {
		return nil, core.Refuse(http.StatusBadRequest, "You cannot use scale and wipe at the same time.")
	}
	views, d, err := q.m.KillTasks(q.now, q.by, ids, scale, q.flag("force"))
	if err != nil || scale {
		return q.deployed(d, err)
	}
	return show(views), nil
}

// wantsText tells whether a list of tasks is wanted for scripts to read.
func (q *request) wantsText() bool {
	return accepts(q.r, "text/plain") && !accepts(q.r, "application/json")
}

// endpoints lists where tasks are, one line for each service port of each app:
// the id with underscores, the port, and the addresses, a tab behind each.
func endpoints(m *core.Machine, apps []string) plain {
	var b strings.Builder
	line := func(id, port string, address func(t *core.Task) string) {
		b.WriteString(strings.ReplaceAll(strings.TrimPrefix(id, "/"), "/", "_") + "\t" + port + "\t")
		var list []string
		for _, v := range m.Tasks(id) {
			if address := address(m.Task(v.ID)); v.State == core.Running && address != "" {
				list = append(list, address+"\t")
			}
		}
		slices.Sort(list)
		b.WriteString(strings.Join(list, "") + "\n")
	}
	for _, id := range apps {
		ports := m.App(id).ServicePorts()
		if len(ports) == 0 {
			line(id, " ", func(t *core.Task) string { return t.Host })
		}
		for i, port := range ports {
			line(id, strconv.Itoa(port), func(t *core.Task) string {
				if i >= len(t.Slots) || t.Slots[i] == 0 {
					return "" // it has no port of its host
				}
				return t.Host + ":" + strconv.Itoa(t.Slots[i])
			})
		}
	}
	return plain(b.String())
}
