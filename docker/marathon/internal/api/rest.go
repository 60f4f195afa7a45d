package api

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// Version is the version of Marathon whose dialect this is.
const Version = "1.5.11"

// tasks serves /v2/tasks.
func (s *Server) tasks(q *request, rest []string) answer {
	switch {
	case len(rest) == 0 && q.method == http.MethodGet && q.wantsText():
		return ok(endpoints(q.m, q.m.Apps("/")))
	case len(rest) == 0 && q.method == http.MethodGet:
		wanted := map[string]bool{}
		for _, state := range append(q.query["status"], q.query["status[]"]...) {
			switch strings.ToLower(state) {
			case "running":
				wanted[core.Running] = true
			case "staging":
				wanted[core.Staging] = true
			}
		}
		views := []core.TaskView{}
		for _, t := range q.m.Tasks("") {
			if len(wanted) == 0 || wanted[t.State] {
				views = append(views, t)
			}
		}
		return ok(map[string]any{"tasks": views})
	case len(rest) == 1 && rest[0] == "delete" && q.method == http.MethodPost:
		return s.deleteTasks(q)
	case len(rest) == 0:
		return q.notAllowed("GET, HEAD")
	case len(rest) == 1 && rest[0] == "delete":
		return q.notAllowed("POST")
	}
	return wrong(refusal(http.StatusNotFound, "URI not found: %s", q.r.URL.Path))
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
			if v.State == core.Running {
				list = append(list, address(m.Task(v.ID)))
			}
		}
		slices.Sort(list)
		for _, address := range list {
			if address != "" {
				b.WriteString(address + "\t")
			}
		}
		b.WriteString("\n")
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

func (s *Server) deleteTasks(q *request) answer {
	if len(q.body) == 0 {
		return wrong(&definition.SyntaxError{Message: "Please specify data in JSON format", Details: "No content to map due to end-of-input"})
	}
	if _, err := definition.Decode(q.body); err != nil {
		return wrong(err)
	}
	var body struct {
		IDs *[]string `json:"ids"`
	}
	if err := json.Unmarshal(q.body, &body); err != nil || body.IDs == nil {
		return wrong(&definition.InvalidError{Message: "Invalid JSON", Problems: []definition.Problem{
			{Path: "/ids", Errors: []string{"error.expected.jsarray"}},
		}})
	}
	for _, id := range *body.IDs {
		if core.AppOfTask(id) == "" {
			return wrong(refusal(http.StatusBadRequest, "Invalid task id '%s'. [a task id is <app id>.<uuid>]", id))
		}
	}
	return s.kill(q, *body.IDs, func(views []core.TaskView) any { return map[string]any{"tasks": views} })
}

// kill kills tasks in the way the query says, and shows them, or the deployment
// that it makes.
func (s *Server) kill(q *request, ids []string, show func([]core.TaskView) any) answer {
	scale := q.flag("scale")
	if scale && q.flag("wipe") {
		return wrong(refusal(http.StatusBadRequest, "You cannot use scale and wipe at the same time."))
	}
	views, d, err := q.m.KillTasks(q.now, q.by, ids, scale, q.flag("force"))
	switch {
	case err != nil:
		return wrong(err)
	case scale:
		return q.deployed(http.StatusOK, d, nil)
	case views == nil:
		views = []core.TaskView{}
	}
	return ok(show(views))
}

// deployments serves /v2/deployments.
func (s *Server) deployments(q *request, rest []string) answer {
	switch {
	case len(rest) == 0 && q.method == http.MethodGet:
		return ok(q.m.Deployments())
	case len(rest) == 1 && q.method == http.MethodDelete:
		if q.flag("force") {
			if err := q.m.StopDeployment(q.now, rest[0]); err != nil {
				return wrong(err)
			}
			return answer{status: http.StatusAccepted}
		}
		d, err := q.m.RevertDeployment(q.now, q.by, rest[0])
		return q.deployed(http.StatusOK, d, err)
	case len(rest) == 0:
		return q.notAllowed("GET, HEAD")
	}
	return q.notAllowed("DELETE")
}

// queue serves /v2/queue.
func (s *Server) queue(q *request, rest []string) answer {
	switch n := len(rest); {
	case n == 0 && q.method == http.MethodGet:
		unused := false
		for _, e := range q.query["embed"] {
			unused = unused || strings.HasSuffix(e, "lastUnusedOffers")
		}
		return ok(map[string]any{"queue": q.m.Queue(q.now, unused)})
	case n > 1 && rest[n-1] == "delay" && q.method == http.MethodDelete:
		id := "/" + strings.Join(rest[:n-1], "/")
		if !q.m.ResetDelay(q.now, id) {
			return wrong(refusal(http.StatusNotFound, "Application %s not found in tasks queue.", id))
		}
		return answer{status: http.StatusNoContent}
	case n == 0:
		return q.notAllowed("GET, HEAD")
	}
	return q.notAllowed("DELETE")
}

func (s *Server) leader(q *request) answer {
	switch q.method {
	case http.MethodGet:
		return ok(map[string]string{"leader": s.Leader})
	case http.MethodDelete:
		// There is nobody else: we lead again at once.
		return ok(map[string]string{"message": "Leadership abdicated"})
	}
	return q.notAllowed("GET, HEAD, DELETE")
}

func (s *Server) info(q *request) answer {
	if q.method != http.MethodGet {
		return q.notAllowed("GET, HEAD")
	}
	host, text, _ := net.SplitHostPort(s.Leader)
	port, _ := strconv.Atoi(text) // a listener's address
	return ok(map[string]any{
		"name": "marathon", "version": Version, "buildref": "paasta", "elected": true, "leader": s.Leader,
		"frameworkId": q.m.FrameworkID(),
		"marathon_config": map[string]any{
			"master": "local", "framework_name": "marathon", "ha": false, "checkpoint": true, "hostname": host,
			"local_port_min": 10000, "local_port_max": 20000, "executor": "//cmd", "failover_timeout": 604800,
			"mesos_role": nil, "mesos_user": "root", "mesos_leader_ui_url": "http://" + s.Leader + "/", "webui_url": nil,
			"task_launch_timeout": 300000, "task_launch_confirm_timeout": 300000, "reconciliation_initial_delay": 15000,
			"reconciliation_interval": 600000, "scale_apps_initial_delay": 15000, "scale_apps_interval": 300000,
			"features": []string{}, "decline_offer_duration": 120000, "access_control_allow_origin": nil,
		},
		"zookeeper_config": map[string]any{
			"zk": "zk://localhost:2181/marathon", "zk_timeout": 10000, "zk_session_timeout": 10000, "zk_connection_timeout": 10000,
			"zk_max_versions": 50, "zk_max_node_size": 1024000, "zk_compression": true, "zk_compression_threshold": 65536,
		},
		"http_config": map[string]any{"http_port": port, "https_port": 0},
	})
}

// ended serves GET /paasta/tasks.
func (s *Server) ended(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		fail(w, refusal(http.StatusMethodNotAllowed, "Method Not Allowed"))
		return
	}
	a := ok(nil)
	list := []core.Ended{}
	v := r.URL.Query()
	for _, e := range s.Ended() {
		if (!v.Has("service") || e.Service == v.Get("service")) && (!v.Has("instance") || e.Instance == v.Get("instance")) {
			list = append(list, e)
		}
	}
	a.body = map[string]any{"tasks": list}
	var err error
	if a.text, err = encode(a.body); err != nil {
		fail(w, err)
		return
	}
	write(w, r, a)
}

// logs serves GET /paasta/tasks/{id}/logs as newline-delimited JSON.
func (s *Server) logs(w http.ResponseWriter, r *http.Request, taskID string) {
	if r.Method != http.MethodGet {
		fail(w, refusal(http.StatusMethodNotAllowed, "Method Not Allowed"))
		return
	}
	v := r.URL.Query()
	q := LogQuery{Stdout: true, Stderr: true, Follow: strings.EqualFold(v.Get("follow"), "true"), Lines: -1}
	switch v.Get("stream") {
	case "", "all":
	case "stdout":
		q.Stderr = false
	case "stderr":
		q.Stdout = false
	default:
		fail(w, refusal(http.StatusUnprocessableEntity, "stream is %q: want stdout, stderr or all", v.Get("stream")))
		return
	}
	if text := v.Get("lines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			fail(w, refusal(http.StatusUnprocessableEntity, "lines is %q: want a number", text))
			return
		}
		q.Lines = n
	}
	control := http.NewResponseController(w)
	begun := false
	begin := func() {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			_ = control.Flush() // not every writer can
		}
	}
	enc := json.NewEncoder(w)
	if q.Follow {
		begin()
	}
	err := s.Logs(r.Context(), taskID, q, func(l LogLine) error {
		begin()
		if err := enc.Encode(l); err != nil {
			return err
		}
		if q.Follow {
			return control.Flush()
		}
		return nil
	})
	switch {
	case err == nil:
		begin()
	case begun:
		// The answer has begun; the client sees that it ends.
	case err == ErrNoTask: //nolint:errorlint // it is returned as it is
		fail(w, refusal(http.StatusNotFound, "Task '%s' does not exist", taskID))
	default:
		fail(w, refusal(http.StatusServiceUnavailable, "logs of %s: %v", taskID, err))
	}
}
