package soaconfig

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// defaultInstance is what an empty entry of marathon-<cluster>.yaml means.
var defaultInstance = Instance{
	CPUs: 0.25, CPUBurstAdd: 1, CFSPeriod: 100 * time.Millisecond, MemMB: 1024, DiskMB: 1024,
	Size: 1, MinInstances: 1, BackoffFactor: 2, MaxLaunchDelay: 300 * time.Second,
	BounceMethod: "crossover", BounceHealth: BounceHealth{MinFractionUp: 1}, BounceMarginFactor: 1,
	Pool: "default", Net: "bridge", ContainerPort: 8888,
	HealthCheck:          HealthCheck{Grace: 60 * time.Second, Interval: 10 * time.Second, Timeout: 10 * time.Second, MaxFailures: 30},
	ReplicationThreshold: 50, DependenciesReference: "main",
}

// instanceReader makes the instances of one file.
type instanceReader struct {
	service    *Service
	cluster    string
	base       Instance // what an empty entry means
	defaults   *value   // what service.yaml says for all instances; nil for nothing
	broken     Problems // what is wrong with that: then nobody knows what an instance should be
	namespaces Entries[Namespace]
	groups     map[string]bool // of deploy.yaml; nil if that is absent or broken
	noDeploy   bool            // there is no deploy.yaml
	noDeps     bool            // there is no dependencies.yaml
}

// read makes an instance of an entry that fits its shape. Of one that does not,
// what fits is read, for the problems.
func (r *instanceReader) read(e *entry) Instance {
	in := r.base
	e.problems = append(e.problems, r.broken...)
	in.Service, in.Cluster, in.Name = r.service.Name, r.cluster, e.name
	if r.defaults != nil {
		e.value = overlay(r.defaults, e.value)
	}
	v := e.value
	in.Written = make(map[string]bool, len(v.fields))
	for _, f := range v.fields {
		in.Written[f.key.text] = true
	}
	in.decode(v)
	grouped := in.group(e)
	in.registering(e)
	in.Monitoring = r.service.Monitoring.with(v.get("monitoring"), e.problems, e.name, "monitoring")
	in.MonitoringTeam = in.Monitoring.Team
	in.checkCombined(e)
	r.references(e, &in, grouped)
	return in
}

func (in *Instance) decode(v *value) {
	in.Env = map[string]string{}
	in.DrainParams = DrainParams{Delay: 60 * time.Second, HacheckPort: 6666}
	decode(v, in)
	read(v.get("security"), "outbound_firewall", &in.OutboundFirewall)
	if w := v.get("deploy_whitelist"); w != nil && len(w.items) > 0 {
		in.DeployWhitelist = &Whitelist{Attribute: w.items[0].text, Values: w.items[1].texts()}
	}
	params := v.get("drain_method_params")
	if !params.get("expiration").given() {
		in.DrainParams.Expiration = max(10*in.DrainParams.Delay, time.Minute) // a mark that has expired drains nobody
	}
	for _, name := range drainRequests {
		if request := params.get(name); request != nil {
			url := DrainURL{Method: "GET", SuccessCodes: "200"}
			decode(request, &url)
			if in.DrainParams.HTTP == nil {
				in.DrainParams.HTTP = map[string]DrainURL{}
			}
			in.DrainParams.HTTP[name] = url
		}
	}
}

var drainRequests = []string{"drain", "stop_draining", "is_draining", "is_safe_to_kill"}

// group expands deploy_group, a format string of Python's, and tells whether
// that went well.
func (in *Instance) group(e *entry) bool {
	in.DeployGroup = in.Cluster + "." + in.Name
	f := e.value.get("deploy_group")
	if f == nil {
		return e.fine("deploy_group")
	}
	in.DeployGroup = placeholder.ReplaceAllStringFunc(f.text, func(s string) string {
		switch s {
		case "{cluster}":
			return in.Cluster
		case "{instance}":
			return in.Name
		case "{service}":
			return in.Service
		}
		return s
	})
	if strings.ContainsAny(in.DeployGroup, "{}") {
		e.report("is "+quote(f.text)+": only {cluster}, {instance} and {service} are replaced", "deploy_group")
		return false
	}
	if !groupName.re.MatchString(in.DeployGroup) || strings.Contains(in.DeployGroup, "..") {
		e.report("becomes "+quote(in.DeployGroup)+", which cannot be part of a git tag", "deploy_group")
		return false
	}
	return true
}

var placeholder = regexp.MustCompile(`\{[a-z]*\}`)

func (in *Instance) registering(e *entry) {
	own := in.Service + "." + in.Name
	if ns := e.value.get("nerve_ns"); ns != nil {
		own = in.Service + "." + ns.text
		if r := e.value.get("registrations"); r != nil && len(r.items) > 0 {
			e.say(Wrong, "is the old form of registrations, which are there too and count: remove it", "nerve_ns")
		}
	}
	in.Registrations = []string{own}
	if r := e.value.get("registrations"); r != nil && len(r.items) > 0 {
		in.Registrations = r.texts()
	}
}

// checkCombined reports what it takes two keys to know.
func (in *Instance) checkCombined(e *entry) {
	has := e.value.has
	if e.fine("min_instances", "max_instances") && in.MaxInstances != nil && *in.MaxInstances > 0 && in.MinInstances > *in.MaxInstances {
		if has("min_instances") {
			e.say(Wrong, fmt.Sprintf("is %d, more than max_instances (%d), and counts", in.MinInstances, *in.MaxInstances), "min_instances")
		} else {
			e.say(Wrong, fmt.Sprintf("is %d, less than min_instances (default %d), which counts", *in.MaxInstances, in.MinInstances), "max_instances")
		}
	}
	if in.Net == "none" {
		e.report("is none: no task can be found or checked without a network, and Marathon has no such mode", "net")
	}
	in.checkLengths(e)
	in.noteUnimplemented(e)
	if in.Cmd != nil && len(in.Args) > 0 {
		e.report("is there together with args: use one of them", "cmd")
	}
	switch h := in.HealthCheck; {
	case !e.fine("healthcheck_mode", "healthcheck_cmd"):
	case h.Mode == "cmd" && h.Cmd == "":
		e.report("is cmd, and healthcheck_cmd is missing", "healthcheck_mode")
	case h.Mode != "cmd" && h.Cmd != "":
		e.say(Note, "is only run with healthcheck_mode: cmd", "healthcheck_cmd")
	}
	if !e.fine("drain_method", "drain_method_params") {
		// Who knows what was meant.
	} else if in.DrainMethod == "http" {
		for _, name := range drainRequests {
			if _, ok := in.DrainParams.HTTP[name]; !ok {
				e.report("lacks "+name+", which drain_method: http asks for", "drain_method_params")
			}
		}
	} else if len(in.DrainParams.HTTP) > 0 {
		e.say(Wrong, "has requests, which only drain_method: http sends", "drain_method_params")
	}
	for _, name := range slices.Sorted(maps.Keys(in.Ulimits)) {
		limit := in.Ulimits[name]
		if limit.Hard != nil && *limit.Hard >= 0 && (limit.Soft > *limit.Hard || limit.Soft < 0) {
			e.report(fmt.Sprintf("has a soft limit (%d) above the hard one (%d)", limit.Soft, *limit.Hard), "ulimit", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.Env)) {
		if looksSecret.MatchString(in.Env[name]) && !isSecret.MatchString(in.Env[name]) {
			e.say(Wrong, "is no reference to a secret: want SECRET(name) or SHARED_SECRET(name), a name of letters, digits, - and _", "env", name)
		}
	}
	if in.GPUs != nil && len(in.ExtraDockerArgs) > 0 {
		e.say(Wrong, "does nothing with gpus, for which Docker does not run", "extra_docker_args")
	}
}

// longestTaskID is what Mesos allows: the name of a task's directory.
const longestTaskID = 255

// longestLabel is what a part of a host name may have.
const longestLabel = 63

// checkLengths reports names that are too long for what is made of them.
func (in *Instance) checkLengths(e *entry) {
	service, instance := strings.ReplaceAll(in.Service, "_", "--"), strings.ReplaceAll(in.Name, "_", "--")
	// As Marathon makes them from 1.9 on.
	task := service + "." + instance + ".git12345678.config12345678.instance-01234567-89ab-cdef-0123-456789abcdef._app.100"
	switch {
	case len(task) > longestTaskID:
		e.report(fmt.Sprintf("is too long together with the service's name: ids of tasks would have %d bytes, and Mesos takes %d", len(task), longestTaskID))
	case len(service) > longestLabel:
		e.say(Wrong, fmt.Sprintf("the service's name is %d bytes long in host names (_ is -- there), whose parts have %d at most", len(service), longestLabel))
	case len(instance) > longestLabel:
		e.say(Wrong, fmt.Sprintf("is %d bytes long in host names (_ is -- there), whose parts have %d at most", len(instance), longestLabel))
	}
	for _, name := range slices.Sorted(maps.Keys(in.ExtraDockerArgs)) {
		if len(name) == 1 {
			e.say(Note, "Mesos passes it as --"+name+", which docker run does not know: write the long form", "extra_docker_args", name)
		}
	}
}

// alertKeys are for alerts, which nobody sends yet.
var alertKeys = []string{
	"page", "ticket", "notification_email", "slack_channels", "irc_channels", "project", "priority", "tags", "component",
	"alert_after", "realert_every", "check_every", "check_oom_events",
}

const noAlerts = "does nothing yet: nobody is alerted"

// noteUnimplemented notes keys that promise what is not there yet.
func (in *Instance) noteUnimplemented(e *entry) {
	for _, key := range []string{"autoscaling", "max_instances"} {
		if e.value.has(key) {
			e.say(Note, "autoscaling does nothing yet: the size changes only by hand", key)
			break
		}
	}
	if m := e.value.get("monitoring"); m != nil {
		for _, key := range alertKeys {
			if m.get(key).given() {
				e.say(Note, noAlerts, "monitoring", key)
			}
		}
	}
	for _, key := range []string{"replication_threshold", "monitoring_blacklist"} {
		if e.value.has(key) {
			e.say(Note, noAlerts, key)
		}
	}
	if in.OutboundFirewall != "" {
		e.say(Note, "does nothing yet: no traffic is watched or blocked", "security", "outbound_firewall")
	}
	for _, name := range slices.Sorted(maps.Keys(in.Env)) {
		if isSecret.MatchString(in.Env[name]) {
			e.say(Note, "does nothing yet: the task gets this text and not the secret", "env", name)
		}
	}
}

var (
	looksSecret = regexp.MustCompile(`^(SHARED_)?SECRET\(`)
	isSecret    = regexp.MustCompile(`^(SHARED_)?SECRET\([A-Za-z0-9_-]+\)$`)
)

// references reports what the instance names in its service's other files and
// is not there.
func (r *instanceReader) references(e *entry, in *Instance, grouped bool) {
	written := e.value.has("deploy_group")
	switch {
	case !grouped:
	case r.groups != nil && !r.groups[in.DeployGroup]:
		known := slices.Sorted(maps.Keys(r.groups))
		text := "the deploy group " + quote(in.DeployGroup) + " is no step of deploy.yaml"
		if near := spelling.Nearest(in.DeployGroup, known); near != "" {
			text += fmt.Sprintf(" (did you mean %q?)", near)
		} else if len(known) > 0 {
			text += " (its groups: " + strings.Join(known, ", ") + ")"
		}
		e.say(Wrong, text, "deploy_group")
	case r.noDeploy && written:
		e.say(Wrong, "the deploy group "+quote(in.DeployGroup)+" is no step of deploy.yaml, which is missing", "deploy_group")
	}
	for _, key := range []string{"registrations", "nerve_ns"} {
		if v := e.value.get(key); v == nil || v.kind == list && len(v.items) == 0 {
			continue
		}
		for _, name := range in.Registrations {
			service, namespace, _ := strings.Cut(name, ".")
			if service != in.Service {
				r.service.refers(name, e.place(key))
			} else if _, found, _ := r.namespaces.Find(namespace); !found {
				e.say(Wrong, noNamespace(name, r.namespaces), key)
			}
		}
	}
	if _, ok := r.service.Deps[in.DependenciesReference]; e.value.has("dependencies_reference") && !ok {
		if r.noDeps {
			e.say(Wrong, "there is no dependencies.yaml", "dependencies_reference")
		} else if r.service.Deps != nil {
			e.say(Wrong, quote(in.DependenciesReference)+" is no key of dependencies.yaml", "dependencies_reference")
		}
	}
}

// noNamespace is the text about a registration that does not exist.
func noNamespace(name string, known Entries[Namespace]) string {
	service, namespace, _ := strings.Cut(name, ".")
	names := append(slices.Collect(maps.Keys(known.Valid)), slices.Collect(maps.Keys(known.Invalid))...)
	slices.Sort(names)
	text := quote(name) + ": smartstack.yaml of " + service + " has no namespace " + namespace
	if near := spelling.Nearest(namespace, names); near != "" {
		text += fmt.Sprintf(" (did you mean %q?)", service+"."+near)
	}
	return text
}
