package soaconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// Deploy is deploy.yaml.
type Deploy struct {
	File            string // "" when absent
	Pipeline        []Step
	SlackChannels   []string `soa:"slack_channels"`
	SlackNotify     bool     `soa:"slack_notify"`
	ProductionGroup string   `soa:"production_deploy_group"` // production_deploy_group
}

// Groups returns the deploy groups of the pipeline, in order.
func (d Deploy) Groups() []string {
	var groups []string
	for _, s := range d.Pipeline {
		if s.IsGroup() {
			groups = append(groups, s.Name)
		}
	}
	return groups
}

// A Step is one step of a pipeline.
type Step struct {
	Name              string `soa:"step"`
	TriggerManually   bool   `soa:"trigger_next_step_manually"`
	WaitForDeployment bool   `soa:"wait_for_deployment"` // default true

	// Who is told in Slack; each defaults to SlackNotify.
	SlackNotify             bool `soa:"slack_notify"`
	NotifyAfterMark         bool `soa:"notify_after_mark"`
	NotifyAfterAbort        bool `soa:"notify_after_abort"`
	NotifyAfterGoodDeploy   bool `soa:"notify_after_good_deploy"`
	NotifyAfterAutoRollback bool `soa:"notify_after_auto_rollback"`
}

func (s *Step) setDefaults() { s.WaitForDeployment = true }

// IsGroup tells deploy groups from the reserved steps.
func (s Step) IsGroup() bool {
	return !slices.Contains(reservedSteps, s.Name) && !strings.HasPrefix(s.Name, "command-")
}

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
	c.noteUnimplementedSlack(root)
	decode(root, &deploy)
	seen := map[string]int32{}
	items := root.get("pipeline").items
	whole = len(items) == len(d.root.get("pipeline").items)
	for _, item := range items {
		var step Step
		step.setDefaults()
		read(item, "slack_notify", &step.SlackNotify)
		step.NotifyAfterMark, step.NotifyAfterAbort, step.NotifyAfterGoodDeploy, step.NotifyAfterAutoRollback = step.SlackNotify, step.SlackNotify, step.SlackNotify, step.SlackNotify
		decode(item, &step)
		c.noteUnimplementedSlack(item, "pipeline")
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

// noteUnimplementedSlack notes keys for messages to Slack, which nobody sends yet.
func (c *checker) noteUnimplementedSlack(v *value, path ...string) {
	for _, f := range v.fields {
		if strings.HasPrefix(f.key.text, "slack_") || strings.HasPrefix(f.key.text, "notify_after_") {
			c.noted(f.key, "does nothing yet: Slack is not told", append(path, f.key.text)...)
		}
	}
}

var reservedSteps = []string{"itest", "itest-and-push-to-registry", "security-check", "performance-check", "push-to-registry"}
