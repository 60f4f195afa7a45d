package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func newInfo(env *Env) *cobra.Command {
	var dir, service string
	var json bool
	cmd := &cobra.Command{
		Use:   "info [-s SERVICE]",
		Short: "Describe a service from its files",
		Long: `Describe a service: what it is, who answers for it, where its code is, where it
runs and at which address clients reach it. It reads files only.`,
		Example: `  paasta info -s web
  paasta info -s web --json | jq -r .git_url`,
		RunE: func(*cobra.Command, []string) error { return info(env, dir, service, json) },
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &dir)
	jsonFlag(cmd, &json)
	return cmd
}

// A serviceInfo is the answer of info --json.
type serviceInfo struct {
	Service      string              `json:"service"`
	Description  string              `json:"description"`
	ExternalLink string              `json:"external_link"`
	Team         string              `json:"team"`
	Runbook      string              `json:"runbook"`
	GitURL       string              `json:"git_url"`
	Clusters     map[string]string   `json:"clusters"` // → URL for clients there, "" when it has none
	Endpoints    []endpoint          `json:"smartstack_endpoints"`
	DeployGroups []string            `json:"deploy_groups"`
	Instances    map[string][]string `json:"instances"` // by cluster
	Dashboards   map[string][]string `json:"dashboards"`
}

// An endpoint is where clients on any host reach a namespace.
type endpoint struct {
	Namespace string `json:"namespace"`
	URL       string `json:"url"`
}

// smartstackAddress is where every host's HAProxy listens.
const smartstackAddress = "169.254.255.254"

func info(env *Env, soaDir, service string, json bool) error {
	svc, err := loadService(env, soaDir, service)
	if err != nil {
		return err
	}
	c, err := env.Config()
	if err != nil {
		return err
	}
	i := describe(svc)
	for _, cluster := range svc.Clusters {
		for name, urls := range c.DashboardLinks[cluster] {
			i.Dashboards[name] = append(i.Dashboards[name], urls...)
		}
	}
	if json {
		return env.printJSON(i)
	}
	printInfo(env, i)
	if n := len(svc.Problems); n > 0 {
		env.notef("paasta: %s has %s in its files: 'paasta validate -s %s' tells", svc.Name, plural(n, "problem"), svc.Name)
	}
	return nil
}

// describe reads a service's files into an answer.
func describe(svc *soaconfig.Service) serviceInfo {
	i := serviceInfo{
		Service: svc.Name, Description: strings.TrimSpace(svc.Description), ExternalLink: svc.ExternalLink,
		Team: svc.Monitoring.Team, Runbook: svc.Monitoring.Runbook, GitURL: svc.GitURL,
		Clusters: map[string]string{}, Endpoints: []endpoint{}, DeployGroups: deployGroupsOf(svc),
		Instances: map[string][]string{}, Dashboards: map[string][]string{},
	}
	if i.DeployGroups == nil {
		i.DeployGroups = []string{}
	}
	for _, name := range slices.Sorted(maps.Keys(svc.Namespaces.Valid)) {
		ns := svc.Namespaces.Valid[name]
		if ns.ProxyPort != nil {
			scheme := cmp.Or(ns.Mode, "http")
			i.Endpoints = append(i.Endpoints, endpoint{name, fmt.Sprintf("%s://%s:%d", scheme, smartstackAddress, *ns.ProxyPort)})
		}
	}
	for _, cluster := range svc.Clusters {
		names := instancesOf(svc, []string{cluster})
		if len(names) == 0 {
			continue
		}
		i.Instances[cluster] = names
		i.Clusters[cluster] = ""
		if len(i.Endpoints) > 0 {
			i.Clusters[cluster] = i.Endpoints[0].URL
		}
	}
	return i
}

func printInfo(env *Env, i serviceInfo) {
	field := func(name, value, absent string) {
		if value == "" {
			value = env.paint(faint, absent)
		}
		env.printf("%s %s\n", env.paint(strong, name+":"), value)
	}
	field("Service Name", i.Service, "")
	field("Description", i.Description, "No 'description' entry in service.yaml.")
	field("External Link", i.ExternalLink, "No 'external_link' entry in service.yaml.")
	team := ""
	if i.Team != "" {
		team = "team " + i.Team
	}
	field("Monitored By", team, "No 'team' entry in monitoring.yaml.")
	field("Runbook", i.Runbook, "No 'runbook' entry in monitoring.yaml.")
	field("Git Repo", i.GitURL, "No 'git_url' entry in service.yaml.")

	heading := func(name string, none string, empty bool) {
		env.printf("%s\n", env.paint(strong, name+":"))
		if empty {
			env.printf(" - %s\n", none)
		}
	}
	heading("Deployed to the following clusters", "N/A: Not deployed to any PaaSTA Clusters", len(i.Clusters) == 0)
	for _, cluster := range slices.Sorted(maps.Keys(i.Clusters)) {
		env.printf(" - %s (%s)\n", cluster, joinWords(i.Instances[cluster]))
	}
	heading("Smartstack endpoint(s)", "N/A: Not in SmartStack", len(i.Endpoints) == 0)
	for _, e := range i.Endpoints {
		env.printf(" - %s (%s)\n", e.URL, e.Namespace)
	}
	if len(i.Dashboards) > 0 {
		heading("Dashboard(s)", "", false)
		for _, name := range slices.Sorted(maps.Keys(i.Dashboards)) {
			for _, url := range i.Dashboards[name] {
				env.printf(" - %s (%s)\n", url, name)
			}
		}
	}
}

// joinWords says "a, b and c".
func joinWords(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return fmt.Sprintf("%s and %s", strings.Join(words[:n-1], ", "), words[n-1])
	}
}
