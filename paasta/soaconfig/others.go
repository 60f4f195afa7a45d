package soaconfig

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// readDeploy reads deploy.yaml. A step that cannot be read is left out, and then
// the pipeline is not whole.
func readDeploy(d document) (deploy Deploy, whole bool, problems Problems) {
	if !d.exists {
		return deploy, false, nil
	}
	deploy.File = d.file
	root, problems := readObject(d, deployShape)
	if root == nil {
		if len(problems) == 0 {
			problems = Problems{{Class: Wrong, File: d.file, Text: "is empty: it needs a pipeline"}}
		}
		return deploy, false, problems
	}
	c := &checker{problems: problems, class: Wrong}
	c.idleSlack(root)
	read(root, "slack_channels", &deploy.SlackChannels)
	read(root, "slack_notify", &deploy.SlackNotify)
	read(root, "production_deploy_group", &deploy.ProductionGroup)
	seen := map[string]int32{}
	items := root.get("pipeline").items
	whole = len(items) == len(d.root.get("pipeline").items)
	for _, item := range items {
		step := Step{WaitForDeployment: true}
		read(item, "step", &step.Name)
		read(item, "trigger_next_step_manually", &step.TriggerManually)
		read(item, "wait_for_deployment", &step.WaitForDeployment)
		read(item, "slack_notify", &step.SlackNotify)
		for key, to := range map[string]*bool{
			"notify_after_mark": &step.NotifyAfterMark, "notify_after_abort": &step.NotifyAfterAbort,
			"notify_after_good_deploy": &step.NotifyAfterGoodDeploy, "notify_after_auto_rollback": &step.NotifyAfterAutoRollback,
		} {
			*to = step.SlackNotify
			read(item, key, to)
		}
		c.idleSlack(item, "pipeline")
		at := item.get("step")
		if line, twice := seen[step.Name]; twice {
			c.at(at, fmt.Sprintf("the step %q is there twice, first in line %d", step.Name, line), "pipeline", "step")
		}
		seen[step.Name] = at.line
		if strings.Contains(step.Name, "..") || strings.HasSuffix(step.Name, ".lock") {
			c.at(at, quote(step.Name)+" cannot be part of a git tag", "pipeline", "step")
		}
		if step.IsGroup() {
			if near := spelling.Nearest(step.Name, reservedSteps); near != "" && spelling.Distance(near, step.Name) == 1 {
				c.at(at, fmt.Sprintf("%s is taken for a deploy group (did you mean %q?)", quote(step.Name), near), "pipeline", "step")
			}
		}
		deploy.Pipeline = append(deploy.Pipeline, step)
	}
	if group := deploy.ProductionGroup; whole && group != "" && !slices.Contains(deploy.Groups(), group) {
		text := "the deploy group " + quote(group) + " is no step of the pipeline"
		text += spelling.Suggest(group, deploy.Groups())
		c.at(root.find("production_deploy_group").key, text, "production_deploy_group")
	}
	return deploy, whole, c.problems
}

// idleSlack notes keys for messages to Slack, which nobody sends yet.
func (c *checker) idleSlack(v *value, path ...string) {
	for _, f := range v.fields {
		if strings.HasPrefix(f.key.text, "slack_") || strings.HasPrefix(f.key.text, "notify_after_") {
			c.noted(f.key, "does nothing yet: Slack is not told", append(path, f.key.text)...)
		}
	}
}

var reservedSteps = []string{"itest", "itest-and-push-to-registry", "security-check", "performance-check", "push-to-registry"}

// with returns m overlaid with what v says, which is nil when there is nothing
// or it cannot be read; problems are those of the file or entry that v is of,
// and path is where v is in it.
func (m Monitoring) with(v *value, problems Problems, path ...string) Monitoring {
	whole, team := dotted(slices.Clone(path)), dotted(append(slices.Clone(path), "team"))
	if slices.ContainsFunc(problems, func(p Problem) bool { return p.Key == team || v == nil && p.Key == whole }) {
		m.TeamUnknown = true
	}
	if v == nil {
		return m
	}
	if v.get("team").given() {
		m.TeamUnknown = false
	}
	read(v, "team", &m.Team)
	read(v, "runbook", &m.Runbook)
	read(v, "tip", &m.Tip)
	read(v, "page", &m.Page)
	read(v, "ticket", &m.Ticket)
	if f := v.get("notification_email"); f.given() {
		m.NotificationEmail = strings.Join(f.people(), ",")
	}
	if f := v.get("slack_channels"); f.given() {
		m.SlackChannels = f.people()
	}
	if f := v.get("irc_channels"); f.given() {
		m.IRCChannels = f.people()
	}
	if f := v.get("alert_after"); f.given() {
		m.AlertAfter = f.someTime()
	}
	other := map[string]any{}
	maps.Copy(other, m.Other)
	budget := maxSteps
	for _, f := range v.fields {
		switch f.key.text {
		case "team", "runbook", "tip", "page", "ticket", "notification_email", "slack_channels", "irc_channels", "alert_after":
		default:
			other[f.key.text] = f.value.plainData(&budget)
		}
	}
	if len(other) > 0 {
		m.Other = other
	}
	return m
}

// people is a list of names; true and false name nobody.
func (v *value) people() []string {
	if v.kind == boolean {
		return nil
	}
	return v.texts()
}

// given tells whether there is a value, and one that says something.
func (v *value) given() bool { return v != nil && v.kind != null }

// someTime reads "10m" or "1h30m", or a number as seconds.
func (v *value) someTime() time.Duration {
	if v.kind != text {
		return seconds(v.number)
	}
	total, rest := 0.0, v.text // whose pattern has passed
	for rest != "" {
		end := strings.IndexFunc(rest, unicode.IsLetter)
		unit := "s"
		if end < 0 {
			end = len(rest)
		} else {
			unit = rest[end : end+1]
		}
		n, _ := strconv.ParseFloat(rest[:end], 64)
		total += n * timeUnits[unit]
		rest = rest[min(end+1, len(rest)):]
	}
	return seconds(min(total, longest))
}

// timeUnits are those of Sensu's intervals, in seconds, and d.
var timeUnits = map[string]float64{
	"s": 1, "m": 60, "h": 3600, "d": 86400, "D": 86400, "W": 7 * 86400, "M": 30 * 86400, "Y": 365 * 86400,
}

// readDependencies reads dependencies.yaml; nil if it is absent or broken as a
// whole.
func (s *Service) readDependencies(d document) (map[string][]Dependency, Problems) {
	root, problems := readObject(d, dependenciesShape)
	if root == nil {
		return nil, problems
	}
	all := map[string][]Dependency{}
	c := &checker{problems: problems, class: Wrong}
	for _, f := range root.fields {
		all[f.key.text] = []Dependency{}
		for _, item := range f.value.items {
			var dep Dependency
			read(item, "well-known", &dep.WellKnown)
			read(item, "smartstack", &dep.Smartstack)
			read(item, "cidr", &dep.CIDR)
			read(item, "port", &dep.Port)
			given := 0
			for _, key := range []string{"well-known", "smartstack", "cidr"} {
				if item.has(key) {
					given++
				}
			}
			if given != 1 {
				c.at(item, "wants exactly one of well-known, smartstack and cidr", f.key.text)
			}
			if dep.CIDR != "" {
				if _, err := netip.ParsePrefix(dep.CIDR); err != nil {
					c.at(item.get("cidr"), "is "+quote(dep.CIDR)+", want a network such as 10.0.0.0/8", f.key.text, "cidr")
				}
			}
			first, last, _ := strings.Cut(dep.Port, ":")
			low, _ := strconv.Atoi(first) // "" and what the pattern allows
			high, _ := strconv.Atoi(last)
			if low > 65535 || high > 65535 || last != "" && high < low {
				c.at(item.get("port"), "is "+dep.Port+", want a port or FIRST:LAST", f.key.text, "port")
			}
			if dep.Smartstack != "" {
				at := item.get("smartstack")
				s.refers(dep.Smartstack, Problem{File: at.file, Line: int(at.line), Column: int(at.column), Key: f.key.text + ".smartstack"})
			}
			all[f.key.text] = append(all[f.key.text], dep)
		}
	}
	return all, c.problems
}

// readTestDependency makes a test dependency of an entry that fits its shape.
func readTestDependency(e *entry) TestDependency {
	v := e.value
	t := TestDependency{Name: e.name, WithDependencies: true, Env: map[string]string{}, Ready: Ready{Timeout: time.Minute}}
	read(v, "service", &t.Service)
	read(v, "instance", &t.Instance)
	read(v, "deploy_group", &t.DeployGroup)
	read(v, "commit", &t.Commit)
	read(v, "build", &t.Build)
	read(v, "with_dependencies", &t.WithDependencies)
	read(v, "image", &t.Image)
	read(v, "port", &t.Port)
	read(v, "cmd", &t.Cmd)
	read(v, "args", &t.Args)
	read(v, "env", &t.Env)
	read(v, "volumes", &t.Tmpfs)
	read(v, "files", &t.Files)
	ready := v.get("ready")
	read(ready, "http", &t.Ready.HTTP)
	read(ready, "tcp", &t.Ready.TCP)
	read(ready, "cmd", &t.Ready.Cmd)
	read(ready, "log", &t.Ready.Log)
	read(ready, "timeout_s", &t.Ready.Timeout)

	switch {
	case !e.fine("service", "image"):
	case t.Service == "" && t.Image == "":
		e.report("wants either service or image")
	case t.Service != "" && t.Image != "":
		e.report("is there together with service: use one of them", "image")
	case t.Service == "":
		for _, key := range []string{"instance", "deploy_group", "commit", "build", "with_dependencies"} {
			if v.has(key) {
				e.report("is only for a service, not for an image", key)
			}
		}
	}
	if v.has("commit") && v.has("build") {
		e.report("is there together with build: use one of them", "commit")
	}
	if t.Cmd != nil && len(t.Args) > 0 {
		e.report("is there together with args: use one of them", "cmd")
	}
	if e.fine("port", "service") && (t.Ready.HTTP != "" || t.Ready.TCP) && t.Service == "" && t.Port == 0 {
		e.report("wants http or tcp, and there is no port", "ready")
	}
	if _, err := regexp.Compile(t.Ready.Log); err != nil {
		e.report("is no regular expression: "+err.Error(), "ready", "log")
	}
	return t
}
