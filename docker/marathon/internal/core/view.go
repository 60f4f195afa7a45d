package core

import (
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// A TaskView is a task as the API shows it.
type TaskView struct {
	AppID              string       `json:"appId"`
	ID                 string       `json:"id"`
	Host               string       `json:"host"`
	Ports              []int        `json:"ports"`
	ServicePorts       []int        `json:"servicePorts"`
	IPAddresses        []Address    `json:"ipAddresses"`
	AgentID            string       `json:"slaveId"`
	State              string       `json:"state"`
	StagedAt           string       `json:"stagedAt"`
	StartedAt          string       `json:"startedAt,omitempty"`
	Version            string       `json:"version"`
	LocalVolumes       []any        `json:"localVolumes"`
	HealthCheckResults []HealthView `json:"healthCheckResults,omitempty"`
}

// A HealthView is the result of one health check of one task. It carries the
// ids that old and new clients look for.
type HealthView struct {
	Alive               bool   `json:"alive"`
	ConsecutiveFailures int    `json:"consecutiveFailures"`
	FirstSuccess        string `json:"firstSuccess,omitempty"`
	LastSuccess         string `json:"lastSuccess,omitempty"`
	LastFailure         string `json:"lastFailure,omitempty"`
	LastFailureCause    string `json:"lastFailureCause,omitempty"`
	InstanceID          string `json:"instanceId"`
	TaskID              string `json:"taskId"`
}

func optional(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Timestamp(t)
}

func (m *Machine) viewTask(t *Task) TaskView {
	v := TaskView{
		AppID: t.AppID, ID: t.ID, Host: t.Host, Ports: t.Ports, ServicePorts: t.App.ServicePorts(), IPAddresses: t.addresses(),
		AgentID: t.AgentID, State: t.State, StagedAt: Timestamp(t.StagedAt), StartedAt: optional(t.StartedAt), Version: t.Version,
		LocalVolumes: []any{},
	}
	if a := m.apps[t.AppID]; a != nil {
		v.ServicePorts = a.ServicePorts()
	}
	for _, c := range t.checks {
		if c.Known() {
			v.HealthCheckResults = append(v.HealthCheckResults, HealthView{
				Alive: c.Alive(), ConsecutiveFailures: c.Failures, FirstSuccess: optional(c.FirstSuccess),
				LastSuccess: optional(c.LastSuccess), LastFailure: optional(c.LastFailure), LastFailureCause: c.Cause,
				InstanceID: t.InstanceID(), TaskID: t.ID,
			})
		}
	}
	return v
}

// Tasks returns the tasks of one app, or of all for "".
func (m *Machine) Tasks(appID string) []TaskView {
	views := []TaskView{}
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		if appID != "" && id != appID {
			continue
		}
		for _, t := range m.appTasks(id) {
			views = append(views, m.viewTask(t))
		}
	}
	return views
}

// Task returns a copy of a task, nil when there is none.
func (m *Machine) Task(id string) *Task {
	if t := m.byID[id]; t != nil {
		c := *t
		return &c
	}
	return nil
}

// App returns an app's definition, nil when there is none. It must not be changed.
func (m *Machine) App(id string) *definition.App { return m.apps[id] }

// Apps returns the ids of the apps below a group ("/" for all), in order.
func (m *Machine) Apps(group string) []string {
	ids := []string{}
	for _, id := range slices.Sorted(maps.Keys(m.apps)) {
		if group == "/" || strings.HasPrefix(id, group+"/") {
			ids = append(ids, id)
		}
	}
	return ids
}

// Versions returns the versions of an app, newest first.
func (m *Machine) Versions(appID string) []*definition.App {
	list := slices.Clone(m.versions[appID])
	slices.Reverse(list)
	return list
}

// Embed says what an app is shown with.
type Embed struct{ Tasks, Counts, Deployments, Readiness, LastTaskFailure, TaskStats bool }

// An AppView is an app as the API shows it.
type AppView struct {
	*definition.App
	TasksStaged           *int                 `json:"tasksStaged,omitempty"`
	TasksRunning          *int                 `json:"tasksRunning,omitempty"`
	TasksHealthy          *int                 `json:"tasksHealthy,omitempty"`
	TasksUnhealthy        *int                 `json:"tasksUnhealthy,omitempty"`
	Deployments           *[]map[string]string `json:"deployments,omitempty"`
	Tasks                 *[]TaskView          `json:"tasks,omitempty"`
	LastTaskFailure       *Failure             `json:"lastTaskFailure,omitempty"`
	ReadinessCheckResults []map[string]any     `json:"readinessCheckResults,omitempty"`
	TaskStats             map[string]any       `json:"taskStats,omitempty"`
}

type tally struct{ staged, running, healthy, unhealthy int }

func count(tasks []*Task) (c tally) {
	for _, t := range tasks {
		switch t.State {
		case Staging, Starting:
			c.staged++
		case Running:
			c.running++
		}
		if h := t.Healthy(); h != nil && *h {
			c.healthy++
		} else if h != nil {
			c.unhealthy++
		}
	}
	return c
}

// View returns an app with what else was asked for.
func (m *Machine) View(a *definition.App, e Embed) AppView {
	v := AppView{App: a}
	tasks := m.appTasks(a.ID)
	if e.Counts {
		c := count(tasks)
		v.TasksStaged, v.TasksRunning, v.TasksHealthy, v.TasksUnhealthy = &c.staged, &c.running, &c.healthy, &c.unhealthy
	}
	if e.Deployments {
		list := []map[string]string{}
		for _, d := range m.deployments {
			if slices.Contains(d.affected(), a.ID) {
				list = append(list, map[string]string{"id": d.ID})
			}
		}
		v.Deployments = &list
	}
	if e.Tasks {
		views := m.Tasks(a.ID)
		v.Tasks = &views
	}
	if e.LastTaskFailure {
		v.LastTaskFailure = m.failures[a.ID]
	}
	if e.Readiness {
		v.ReadinessCheckResults = m.readiness(a.ID)
	}
	if e.TaskStats {
		v.TaskStats = m.taskStats(a, tasks)
	}
	return v
}

func (m *Machine) readiness(appID string) []map[string]any {
	var list []map[string]any
	for _, t := range m.appTasks(appID) {
		r := t.readiness
		if r == nil || len(t.App.ReadinessChecks) == 0 {
			continue
		}
		one := map[string]any{"name": t.App.ReadinessChecks[0].Name, "taskId": t.ID, "ready": r.Ready}
		if t.App.ReadinessChecks[0].PreserveLastResponse && r.Status != 0 {
			one["lastResponse"] = map[string]any{"status": r.Status, "contentType": r.ContentType, "body": r.Body}
		}
		list = append(list, one)
	}
	return list
}

func (m *Machine) taskStats(a *definition.App, tasks []*Task) map[string]any {
	now, _ := time.Parse(timestamp, m.meta.LastVersion)
	stats := map[string]any{}
	section := func(name string, wanted func(*Task) bool) {
		var some []*Task
		for _, t := range tasks {
			if wanted(t) {
				some = append(some, t)
				if t.StartedAt.After(now) {
					now = t.StartedAt
				}
			}
		}
		if len(some) == 0 {
			return
		}
		c := count(some)
		s := map[string]any{"counts": map[string]int{
			"staged": c.staged, "running": c.running, "healthy": c.healthy, "unhealthy": c.unhealthy,
		}}
		var lives []float64
		for _, t := range some {
			if t.State == Running {
				lives = append(lives, math.Max(0, now.Sub(t.StartedAt).Seconds()))
			}
		}
		if len(lives) > 0 {
			slices.Sort(lives)
			sum := 0.0
			for _, l := range lives {
				sum += l
			}
			s["lifeTime"] = map[string]float64{
				"averageSeconds": sum / float64(len(lives)), "medianSeconds": (lives[len(lives)/2] + lives[(len(lives)-1)/2]) / 2,
			}
		}
		stats[name] = map[string]any{"stats": s}
	}
	section("startedAfterLastScaling", func(t *Task) bool { return t.Version >= a.VersionInfo.LastScalingAt })
	section("withLatestConfig", func(t *Task) bool { return t.upToDate(a) })
	section("withOutdatedConfig", func(t *Task) bool { return !t.upToDate(a) })
	section("totalSummary", func(*Task) bool { return true })
	return stats
}

// Deployments returns the deployments that run, oldest first.
func (m *Machine) Deployments() []map[string]any {
	list := []map[string]any{}
	for _, d := range m.deployments {
		current := []map[string]any{}
		if d.Step > 0 && d.Step <= len(d.Steps) {
			for _, a := range d.Steps[d.Step-1].Actions {
				results := m.readiness(a.App)
				if results == nil {
					results = []map[string]any{}
				}
				current = append(current, map[string]any{"action": a.Action, "app": a.App, "readinessCheckResults": results})
			}
		}
		list = append(list, map[string]any{
			"id": d.ID, "version": d.Version, "affectedApps": d.affected(), "affectedPods": []string{}, "steps": d.Steps,
			"currentActions": current, "currentStep": d.Step, "totalSteps": len(d.Steps),
		})
	}
	return list
}

// Queue returns the apps whose tasks wait to be launched.
func (m *Machine) Queue(now time.Time, lastUnusedOffers bool) []map[string]any {
	list := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(m.queue)) {
		a := m.apps[id]
		if a == nil {
			continue
		}
		wait := m.wait(now, a)
		o := m.queue[id]
		summary := map[string]any{
			"processedOffersCount": o.Processed, "unusedOffersCount": o.Unused,
			"rejectSummaryLastOffers": Funnel(o.Last), "rejectSummaryLaunchAttempt": Funnel(nil),
		}
		if !o.LastUnused.IsZero() {
			summary["lastUnusedOfferAt"] = Timestamp(o.LastUnused)
		}
		item := map[string]any{
			"count": o.Count, "since": Timestamp(o.Since), "app": a, "processedOffersSummary": summary,
			"delay": map[string]any{"timeLeftSeconds": int(math.Ceil(wait.Seconds())), "overdue": wait == 0},
		}
		if lastUnusedOffers {
			unused := []map[string]any{}
			for _, r := range o.Last {
				if r.Reason != "" {
					unused = append(unused, map[string]any{
						"offer": r.Agent.describe("offer-" + r.Agent.ID), "reason": []string{r.Reason}, "timestamp": Timestamp(r.Time),
					})
				}
			}
			item["lastUnusedOffers"] = unused
		}
		list = append(list, item)
	}
	return list
}

// Group returns a group of r. With apps or groups false these are left out, at
// every level.
func (m *Machine) Group(r Root, id string, apps, groups bool, e Embed) map[string]any {
	views, children := []AppView{}, []map[string]any{}
	for _, app := range slices.Sorted(maps.Keys(r.Apps)) {
		if path.Dir(app) == id && apps {
			views = append(views, m.View(r.Apps[app], e))
		}
	}
	for _, child := range slices.Sorted(maps.Keys(r.Groups)) {
		if path.Dir(child) == id && child != "/" && groups {
			children = append(children, m.Group(r, child, apps, groups, e))
		}
	}
	return map[string]any{
		"id": id, "dependencies": append([]string{}, r.Groups[id]...), "version": r.Version,
		"apps": views, "groups": children, "pods": []any{},
	}
}

// An AgentView is a virtual agent and what runs on it.
type AgentView struct {
	Agent
	Tasks []LocalTask `json:"tasks"`
}

// A LocalTask is a task that runs, or may run, on this machine now.
type LocalTask struct {
	ID    string `json:"id"`
	AppID string `json:"app_id"`
	Host  string `json:"host"`
	Port  int    `json:"port"` // the first, 0 for none
	Ports []int  `json:"ports"`
	State string `json:"state"`
	IP    string `json:"ip,omitempty"` // of its container; "" for none of its own
	// Service and Instance are what its app's labels say, "" if it is not PaaSTA's.
	Service  string `json:"service,omitempty"`
	Instance string `json:"instance,omitempty"`
}

// Agents returns the virtual agents, and after them those that were configured
// away and have tasks yet: what runs is never left out.
func (m *Machine) Agents() []AgentView {
	views := make([]AgentView, len(m.cfg.Agents))
	at := map[string]int{}
	for i, x := range m.cfg.Agents {
		views[i] = AgentView{x, []LocalTask{}}
		at[x.ID] = i
	}
	for _, id := range slices.Sorted(maps.Keys(m.byID)) {
		t := m.byID[id]
		i, ok := at[t.AgentID]
		if !ok || views[i].Hostname != t.Host {
			i = len(views)
			views = append(views, AgentView{Agent{ID: t.AgentID, Hostname: t.Host, Address: t.Address, Attributes: map[string]string{}}, []LocalTask{}})
			at[t.AgentID] = i
		}
		l := LocalTask{ID: t.ID, AppID: t.AppID, Host: t.Host, Ports: t.Ports, State: t.State, IP: t.IP}
		if t.App != nil {
			l.Service, l.Instance = t.App.Labels["paasta_service"], t.App.Labels["paasta_instance"]
		}
		if len(t.Ports) > 0 {
			l.Port = t.Ports[0]
		}
		views[i].Tasks = append(views[i].Tasks, l)
	}
	return views
}
