package cli

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/printable"
)

// A statusPrinter prints statuses in PaaSTA's shape, whose indentation people
// know and scripts rely on.
type statusPrinter struct {
	env     *Env
	verbose int
	links   map[string]map[string][]string // dashboard_links of the system config
}

func newStatusPrinter(env *Env, verbose int) (statusPrinter, error) {
	c, err := env.Config()
	if err != nil {
		return statusPrinter{}, err
	}
	return statusPrinter{env: env, verbose: verbose, links: c.DashboardLinks}, nil
}

// print prints a block for each cluster and service, in the order of all.
func (p statusPrinter) print(ctx context.Context, all []api.InstanceStatus) {
	var before api.InstanceStatus
	for _, s := range all {
		if s.Service != before.Service || s.Cluster != before.Cluster {
			p.line("")
			p.line("service: %s", p.env.paint(strong, s.Service))
			p.line("cluster: %s", p.env.paint(strong, s.Cluster))
		} else {
			p.line("")
		}
		p.instance(s)
		if p.verbose >= 2 {
			p.tails(ctx, s)
		}
		before = s
	}
}

func (p statusPrinter) line(format string, args ...any) {
	p.env.printf("%s\n", strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (p statusPrinter) instance(s api.InstanceStatus) {
	paint := p.env.paint
	name := good
	switch {
	case s.DeployStatus == "NotDeployed":
		name = faint
	case !s.OK:
		name = bad
	}
	p.line("    instance: %s", paint(name, s.Instance))
	switch {
	case s.GitUnknown:
		p.line("    Git sha:    %s", paint(bad, "Unknown"))
	case s.GitSHA == "":
		p.line("    Git sha:    None (not deployed yet)")
	default:
		p.line("    Git sha:    %s (desired)", short(s.GitSHA))
	}
	p.line("    Desired State:      %s and %s", p.configured(s), p.desired(s))
	p.line("    Marathon:   %s", p.marathon(s))
	for _, v := range s.Versions {
		p.version(s, v)
	}
	if s.AppID != "" && !slices.ContainsFunc(s.Versions, func(v api.Version) bool { return v.Desired }) {
		p.line("      %s %s", paint(warn, "Not created yet:"), s.AppID)
	}
	if len(s.Rejected) > 0 {
		p.line("        Possibly stalled for:")
		for _, why := range slices.Sorted(maps.Keys(s.Rejected)) {
			p.line("          %s: %d times", why, s.Rejected[why])
		}
	}
	p.bounce(s)
	p.smartstack(s)
	for _, n := range s.Notes {
		p.line("    %s %s", paint(warn, "Note:"), n)
	}
}

// configured is how many versions there are, in PaaSTA's words.
func (p statusPrinter) configured(s api.InstanceStatus) string {
	switch {
	case s.AppCount == 0 && s.DeployStatus == "Unknown":
		return p.env.paint(bad, "Unknown")
	case s.DeployStatus == "NotDeployed":
		return p.env.paint(faint, "Disabled")
	case s.AppCount == 0:
		return p.env.paint(bad, "Disabled")
	case s.AppCount == 1:
		return p.env.paint(good, "Configured")
	}
	return p.env.paint(warn, fmt.Sprintf("Bouncing (%s)", s.BounceMethod))
}

func (p statusPrinter) desired(s api.InstanceStatus) string {
	switch {
	case s.DesiredState == "stop" || (s.Expected == 0 && s.DesiredState == "start"):
		return p.env.paint(bad, "Stopped")
	case s.DesiredState == "start":
		return p.env.paint(good, "Started")
	}
	return p.env.paint(bad, fmt.Sprintf("Unknown (desired_state: %s)", s.DesiredState))
}

func (p statusPrinter) marathon(s api.InstanceStatus) string {
	word, c := "Warning", warn
	switch {
	case s.DeployStatus == "Unknown":
		word, c = "Unknown", bad
	case s.DeployStatus == "NotDeployed":
		return p.env.paint(faint, "Not deployed") + " - nobody has marked a commit for " + s.DeployGroup
	case s.Running >= s.Expected && s.Healthy >= s.Expected:
		word, c = "Healthy", good
	case s.Running == 0:
		word, c = "Critical", bad
	}
	return fmt.Sprintf("%s - up with (%d/%d) instances. Status: %s",
		p.env.paint(c, word), s.Running, s.Expected, p.deployStatus(s))
}

// deployStatus is the status with what it means.
func (p statusPrinter) deployStatus(s api.InstanceStatus) string {
	switch s.DeployStatus {
	case "Waiting":
		return p.env.paint(bad, "Waiting") + " (new tasks waiting for capacity to become available)"
	case "Delayed":
		return p.env.paint(bad, "Delayed") + fmt.Sprintf(" (tasks are crashing, next won't launch for another %d seconds)", s.BackoffSeconds)
	case "NotRunning":
		if s.GitSHA == "" && !s.GitUnknown {
			return p.env.paint(warn, "NotRunning") + " (not deployed yet)"
		}
		return p.env.paint(warn, "Waiting for bounce")
	case "Deploying":
		return p.env.paint(warn, "Deploying")
	case "Running":
		return p.env.paint(good, "Running")
	case "Stopped":
		return p.env.paint(faint, "Stopped")
	}
	return p.env.paint(bad, s.DeployStatus)
}

func (p statusPrinter) version(s api.InstanceStatus, v api.Version) {
	if v.Desired {
		p.line("      %s", p.appLine(s.Cluster, v.AppID))
	} else {
		p.line("      %s %s", p.env.paint(warn, "Old app ID:"), v.AppID)
	}
	running, healthy, staged := 0, 0, 0
	for _, t := range v.Tasks {
		if t.State != "TASK_RUNNING" {
			staged++
			continue
		}
		running++
		if t.Health == "healthy" || t.Health == "none" {
			healthy++
		}
	}
	p.line("        %d running, %d healthy, %d staged out of %d", running, healthy, staged, v.Size)
	p.line("        App created: %s", p.at(v.Created))
	if f := v.LastFailure; f != nil && !s.OK {
		p.line("        %s %s on %s, %s: %s", p.env.paint(bad, "Last failure:"), f.State, f.Host, p.at(f.Time), oneLine(f.Message))
		for _, l := range f.Output {
			p.line("          %s %s", p.env.paint(faint, "|"), printable.Text(l))
		}
	}
	if p.verbose == 0 {
		return
	}
	if len(v.Tasks) == 0 {
		p.line("        No tasks associated with this marathon app")
		return
	}
	p.line("        Tasks:")
	t := newTable(p.env, "Mesos Task ID", "Host deployed to", "Deployed at what localtime", "Health")
	t.indent = "          "
	for _, task := range v.Tasks {
		t.row(p.task(task.ID), fmt.Sprintf("%s:%d", task.Host, task.Port), p.at(task.Started), p.health(task))
	}
	p.table(t)
}

func (p statusPrinter) appLine(cluster, app string) string {
	if urls := p.links[cluster]["Marathon RO"]; len(urls) > 0 {
		return "Marathon dashboard: " + strings.TrimRight(urls[0], "/") + "/ui/#/apps/" + url.QueryEscape("/"+app)
	}
	return "Marathon app ID: " + app
}

func (p statusPrinter) health(t api.Task) string {
	switch {
	case t.State != "TASK_RUNNING":
		return p.env.paint(warn, t.State)
	case t.Health == "healthy":
		return p.env.paint(good, "Healthy")
	case t.Health == "unhealthy":
		return p.env.paint(bad, "Unhealthy")
	case t.Health == "none":
		return "N/A"
	}
	return p.env.paint(warn, "Unknown")
}

// latestSteps is how many steps one -v shows: about those of one bounce.
const latestSteps = 15

// bounce says what deployd does and what it waits for.
func (p statusPrinter) bounce(s api.InstanceStatus) {
	b := s.Bounce
	if b == nil {
		return
	}
	c := map[string]color{"steady": good, "stopped": faint, "failed": bad}[b.State]
	if c == plain {
		c = warn
	}
	text := fmt.Sprintf("    Bounce:     %s (%s)", p.env.paint(c, b.State), b.Method)
	if !b.Since.IsZero() {
		text += ", since " + p.at(b.Since)
	}
	p.line("%s", text)
	if b.Why != "" {
		p.line("      %s %s", p.env.paint(c, "Why:"), oneLine(b.Why))
	}
	if b.Stale {
		p.line("      A system-wide value has changed; its tasks are replaced when its turn comes.")
	}
	if p.verbose == 0 {
		return
	}
	var waiting []paasta.BounceTask
	for _, t := range b.Tasks {
		if t.Why != "" {
			waiting = append(waiting, t)
		}
	}
	if len(waiting) > 0 {
		p.line("      Tasks that it waits for:")
		t := newTable(p.env, "Task", "Host", "State", "Why")
		t.indent = "        "
		for _, w := range waiting {
			t.row(p.task(w.ID), fmt.Sprintf("%s:%d", w.Host, w.Port), w.State, oneLine(w.Why))
		}
		p.table(t)
	}
	steps := b.Steps
	if p.verbose == 1 {
		steps = steps[max(0, len(steps)-latestSteps):]
	}
	if len(steps) > 0 {
		p.line("      Latest steps:")
		t := newTable(p.env, "When", "Step", "Why")
		t.indent = "        "
		for _, step := range steps {
			t.row(p.at(step.Time), step.Op+" "+step.Target, oneLine(step.Why))
		}
		p.table(t)
	}
}

func (p statusPrinter) smartstack(s api.InstanceStatus) {
	ss := s.Smartstack
	if ss == nil {
		return
	}
	p.line("    Smartstack:")
	if p.verbose > 0 {
		p.line("      Haproxy Service Name: %s", ss.Registration)
		p.line("      Backends:")
	}
	if len(ss.Hosts) == 0 {
		p.line("        no host was asked")
	}
	mine := map[string]bool{}
	for _, v := range s.Versions {
		for _, t := range v.Tasks {
			mine[t.ID] = true
			mine[fmt.Sprintf("%s:%d", t.Host, t.Port)] = true
		}
	}
	for _, h := range ss.Hosts {
		p.line("        %s - %s", h.Host, p.backends(h, ss.Expected))
		if p.verbose == 0 || len(h.Backends) == 0 {
			continue
		}
		t := newTable(p.env, "Name", "LastCheck", "LastChange", "Status")
		t.indent = "          "
		for _, b := range h.Backends {
			cells := []string{fmt.Sprintf("%s:%d", b.Host, b.Port), orDash(oneLine(b.LastCheck)), p.at(b.Since), p.backend(b)}
			if !mine[b.TaskID] && !mine[cells[0]] {
				for i := range cells {
					cells[i] = p.env.paint(faint, cells[i]) // another instance's, in the same namespace
				}
			}
			t.row(cells...)
		}
		p.table(t)
	}
	if more := ss.Agents - len(ss.Hosts); more > 0 {
		p.line("        (%d more not asked)", more)
	}
}

// backends says how many of the expected backends that its clients discover a host
// has.
func (p statusPrinter) backends(h api.AgentView, expected int) string {
	if h.Error != "" {
		return p.env.paint(warn, "Unknown") + " - " + h.Error
	}
	stale := ""
	if h.StaleSince != nil {
		stale = p.env.paint(warn, fmt.Sprintf(" It has not heard from the registry since %s.", p.at(*h.StaleSince)))
	}
	expected -= h.Elsewhere
	if h.Elsewhere > 0 && expected <= 0 {
		return fmt.Sprintf("Elsewhere - its clients discover none of the %d backends of this namespace.%s", h.Elsewhere, stale)
	}
	if h.Elsewhere > 0 {
		stale += fmt.Sprintf(" Its clients do not discover %d more.", h.Elsewhere)
	}
	share := 100
	if expected > 0 {
		share = 100 * h.Up / expected
	}
	if share <= 50 && expected > 0 {
		return fmt.Sprintf("%s - in haproxy with (%d/%d, %d%%) total backends UP in this namespace.%s",
			p.env.paint(bad, "Critical"), h.Up, expected, share, stale)
	}
	return fmt.Sprintf("%s - in haproxy with (%d/%d) total backends UP in this namespace.%s",
		p.env.paint(good, "Healthy"), h.Up, expected, stale)
}

func (p statusPrinter) backend(b paasta.AgentBackend) string {
	switch {
	case b.Up:
		return p.env.paint(good, b.Status)
	case strings.HasPrefix(b.Status, "DOWN"), strings.HasPrefix(b.Status, "MAINT"):
		return p.env.paint(bad, b.Status)
	}
	return p.env.paint(warn, b.Status)
}

// tails prints the end of the output of every task.
func (p statusPrinter) tails(ctx context.Context, s api.InstanceStatus) {
	lines := 10
	if p.verbose > 2 {
		lines = 100
	}
	client, err := p.env.API(s.Cluster)
	if err != nil {
		p.line("    %s %v", p.env.paint(warn, "Note:"), err)
		return
	}
	q := api.LogQuery{Service: s.Service, Instances: []string{s.Instance}, Components: []string{"stdout", "stderr"}, Lines: lines}
	byTask := map[string][]paasta.LogLine{}
	err = client.Logs(ctx, q, func(l paasta.LogLine) error {
		byTask[l.Task] = append(byTask[l.Task], l)
		return nil
	})
	if err != nil {
		p.line("    %s the output of the tasks was not read: %v", p.env.paint(warn, "Note:"), err)
	}
	for _, task := range slices.Sorted(maps.Keys(byTask)) {
		if task == "" {
			for _, l := range byTask[task] {
				p.line("    %s %s", p.env.paint(warn, "Note:"), l.Message)
			}
			continue
		}
		p.line("    Output of %s:", task)
		for _, l := range byTask[task] {
			p.line("      %s %s", p.env.paint(faint, l.Component+":"), printable.Text(l.Message))
		}
	}
}

// table prints a table as aligned lines, in a pipe as well: it is part of a
// block that is for people.
func (p statusPrinter) table(t *table) {
	for _, l := range t.lines() {
		p.line("%s", l)
	}
}

// task is the id of a task, short on a terminal so that its row fits there; -vv
// and pipes have it in full.
func (p statusPrinter) task(id string) string {
	if p.env.TTY && p.verbose < 2 {
		return short(taskUUID(id))
	}
	return taskUUID(id)
}

// at is a time as PaaSTA writes it: local, and how long ago.
func (p statusPrinter) at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if !p.env.TTY {
		return t.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s (%s)", t.Local().Format(time.RFC3339), ago(p.env.Now().Sub(t)))
}
