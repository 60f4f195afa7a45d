package sysconfig

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// complete fills in what depends on other keys or on the machine.
func (c *Config) complete() error {
	if len(c.Clusters) == 0 && c.Cluster != "" {
		c.Clusters = []string{c.Cluster}
	}
	if c.Smartstack.Announce == "" {
		c.Smartstack.Announce = "http://" + c.Smartstack.Listen
	}
	for i, v := range c.Volumes {
		if v.Mode == "" {
			c.Volumes[i].Mode = "RO"
		}
	}
	if c.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("hostname: %w; set it in the system config", err)
		}
		c.Hostname = name
	}
	return nil
}

// A mistake is about one key.
type mistake struct {
	path []string
	text string
}

// locate turns mistakes into errors that say where the key was set.
func (s settings) locate(mistakes []mistake) []error {
	var errs []error
	for _, m := range mistakes {
		leaf := leaf{path: m.path}
		where := "default"
		if _, ok := os.LookupEnv(leaf.env()); ok {
			where = leaf.env()
		} else if at, ok := s.origins[strings.Join(m.path, ".")]; ok {
			where = at
		}
		errs = append(errs, fmt.Errorf("%s: %s: %s", where, strings.Join(m.path, "."), m.text))
	}
	return errs
}

// check finds what the types cannot say.
func (c *Config) check() []mistake {
	var mistakes []mistake
	bad := func(key, format string, args ...any) {
		mistakes = append(mistakes, mistake{strings.Split(key, "."), fmt.Sprintf(format, args...)})
	}
	oneOf := func(key, value string, known ...string) {
		if !slices.Contains(known, value) {
			bad(key, "unknown value %q (known: %s)%s", value, strings.Join(known, ", "), spelling.Suggest(value, known))
		}
	}
	positive := func(key string, d time.Duration) {
		if d <= 0 {
			bad(key, "is %s, want more than 0", d)
		}
	}
	if c.Cluster != "" && !slices.Contains(c.Clusters, c.Cluster) {
		bad("cluster", "%q is not among clusters (%s)", c.Cluster, strings.Join(c.Clusters, ", "))
	}
	for _, name := range append([]string{c.Cluster}, c.Clusters...) {
		if strings.ContainsAny(name, "/ \t\n") || strings.HasPrefix(name, ".") {
			bad("clusters", "%q cannot be part of a file name", name)
		}
	}
	oneOf("deployd.deployments", c.Deployd.Deployments, "tags", "file")
	oneOf("smartstack.reload.protect", c.Smartstack.Reload.Protect, "auto", "qdisc", "nfqueue", "none")
	for i, v := range c.Volumes {
		oneOf("volumes", v.Mode, "RO", "RW")
		if v.HostPath == "" || v.ContainerPath == "" {
			bad("volumes", "volume %d lacks hostPath or containerPath", i+1)
		}
	}
	for i, m := range c.MarathonServers {
		if len(m.URL) == 0 {
			bad("marathon_servers", "server %d has no url", i+1)
		}
	}
	for _, m := range c.MesosMasters {
		if u, err := url.Parse(m); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("mesos_masters", "%q is no URL of a Mesos master, want e.g. http://m1:5050", m)
		}
	}
	for _, pair := range c.DeployBlacklist {
		if len(pair) != 2 {
			bad("deploy_blacklist", "want pairs of [attribute, value], got %q", pair)
		}
	}
	if attribute, _ := c.Whitelist(); attribute == "" && len(c.DeployWhitelist) > 0 {
		bad("deploy_whitelist", "want [attribute, [value, …]], got %v", c.DeployWhitelist)
	}
	for child, parent := range c.LocationParents {
		if !strings.Contains(child, ":") || !strings.Contains(parent, ":") {
			bad("location_parents", "want type:name: type:name, got %q: %q", child, parent)
		}
	}
	for t := range c.Location {
		if !slices.Contains(c.LocationTypes, t) {
			bad("location."+t, "unknown location type %q (known: %s)%s", t, strings.Join(c.LocationTypes, ", "), spelling.Suggest(t, c.LocationTypes))
		}
	}
	if c.Deployd.Workers < 1 {
		bad("deployd.workers", "is %d, want at least 1", c.Deployd.Workers)
	}
	if f := c.Smartstack.RemovalFloor; f <= 0 || f > 1 {
		bad("smartstack.removal_floor", "is %v, want a share above 0 and up to 1", f)
	}
	if c.Smartstack.MaxConn < 1 {
		bad("smartstack.maxconn", "is %d, want at least 1", c.Smartstack.MaxConn)
	}
	if c.DrainGrace < 0 {
		bad("drain_grace", "is %s, want 0 or more", c.DrainGrace)
	}
	positive("deployd.resync", c.Deployd.Resync)
	positive("deployd.git_poll", c.Deployd.GitPoll)
	positive("deployd.git_poll_hooked", c.Deployd.GitPollHooked)
	positive("deployd.drain_timeout", c.Deployd.DrainTimeout)
	positive("smartstack.check_interval", c.Smartstack.CheckInterval)
	positive("smartstack.check_fastinter", c.Smartstack.CheckFast)
	positive("smartstack.removal_window", c.Smartstack.RemovalWindow)
	positive("smartstack.reload.hold", c.Smartstack.Reload.Hold)
	return mistakes
}

// Whitelist is deploy_whitelist: an attribute of agents, and the values that it may
// have; "" where there is none.
func (c Config) Whitelist() (attribute string, values []string) {
	if len(c.DeployWhitelist) != 2 {
		return "", nil
	}
	attribute, _ = c.DeployWhitelist[0].(string)
	list, ok := c.DeployWhitelist[1].([]any)
	for _, v := range list {
		text, isText := v.(string)
		values, ok = append(values, text), ok && isText
	}
	if !ok {
		return "", nil
	}
	return attribute, values
}
