package soaconfig

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// What PaaSTA takes and we once refused: the instance is sound, and nothing but
// a note is said.
func TestLegalInPaaSTA(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{
		"deploy_whitelist: []",
		"deploy_whitelist: [region, ['us.*', '(?!x).*', 'a{2}']]",
		"deploy_blacklist: [[region, '(?!x).*']]",
		"accepted_resource_roles: ['*']",
		"accepted_resource_roles: [web, '*']",
		"constraints: [[rack, LIKE, 'r[0-9]{2}'], [host, UNLIKE, '(?!x).*'], [pool, LIKE, 'foo.*']]",
		"extra_constraints: [[region, GROUP_BY, 2], [region, GROUP_BY]]",
		"pool: 'foo.*'",
		"pool: 'a{2}|(?!x).*'",
		"registrations: []",
		"healthcheck_cmd: /bin/true",
		"{healthcheck_cmd: /bin/true, healthcheck_mode: http}",
		"monitoring: {alert_after: 1h30m}",
		"monitoring: {alert_after: 1D, realert_every: -1, check_every: 2W}",
		"monitoring: {runbook: , team: , page: , alert_after: }",
		"max_instances: 0",
		"{max_instances: 0, min_instances: 0}",
		"net: my-network",
		"constraints: [['@hostname', UNIQUE], [my rack, LIKE, a b]]",
		"{healthcheck_interval_seconds: 0, healthcheck_timeout_seconds: 0}",
		"healthcheck_uri: '/status?a=b c#d'",
		"monitoring: {team: a/b}",
		"",
		"~",
		"{}",
	} {
		text := "main:\n  " + keys + "\n"
		dir := unpack(t, txtar.Parse([]byte("-- web/service.yaml --\nexternal_link: \"\"\nrunbook:\n-- web/marathon-norcal.yaml --\n"+text)))
		tree, err := Load(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := tree.Services["web"].Instances["norcal"].Valid["main"]; !ok || len(tree.Problems) > 0 {
			t.Errorf("%s: sound %t, %v", keys, ok, tree.Problems)
		}
	}
}

// No problem of these breaks the instance.
func TestWrongBreaksNothing(t *testing.T) {
	t.Parallel()
	for name, archive := range map[string]string{
		"an unknown key of an instance":    "-- web/marathon-norcal.yaml --\nmain: {new: 1, monitoring: {}, bounce_health_params: {new: 1}, autoscaling: [1]}\n",
		"an unknown key of service.yaml":   "-- web/service.yaml --\ndesciption: x\n",
		"of deploy.yaml":                   "-- web/deploy.yaml --\nnew: 1\npipeline: [{step: norcal.main, new: 1}]\n",
		"of smartstack.yaml":               "-- web/smartstack.yaml --\nmain: {proxy_port: 20001, new: {a: 1}}\n",
		"of dependencies.yaml":             "-- web/dependencies.yaml --\nmain: [{cidr: 10.0.0.0/8, new: 1}]\n",
		"a deploy group that is no step":   "-- web/deploy.yaml --\npipeline: [{step: other}]\n",
		"a group without deploy.yaml":      "-- web/marathon-norcal.yaml --\nmain: {deploy_group: other}\n",
		"deploy.yaml is no YAML":           "-- web/deploy.yaml --\npipeline: [\n",
		"monitoring.yaml is no YAML":       "-- web/monitoring.yaml --\nteam: \"\n",
		"monitoring.yaml is a list":        "-- web/monitoring.yaml --\n- a\n",
		"monitoring of the wrong kind":     "-- web/marathon-norcal.yaml --\nmain: {monitoring: [1]}\n",
		"a monitoring key of another kind": "-- web/monitoring.yaml --\nteam: [a]\npage: perhaps\nalert_after: soon\n",
		"a fraction of a second":           "-- web/marathon-norcal.yaml --\nmain: {healthcheck_interval_seconds: 0.5, healthcheck_timeout_seconds: 1.9}\n",
		"null":                             "-- web/marathon-norcal.yaml --\nmain: {cmd: , pool: , env: {A: }, instances: ~}\n",
		"a key twice":                      "-- web/marathon-norcal.yaml --\nmain: {cpus: 1, cpus: 2}\n",
		"an exponent":                      "-- web/marathon-norcal.yaml --\nmain: {mem: 1e3}\n",
	} {
		a := txtar.Parse([]byte(archive))
		if !strings.Contains(archive, "marathon-norcal") {
			a.Files = append(a.Files, txtar.File{Name: "web/marathon-norcal.yaml", Data: []byte("main: {}\n")})
		}
		tree, err := Load(t.Context(), unpack(t, a), Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := tree.Services["web"]
		if _, ok := s.Instances["norcal"].Valid["main"]; !ok || len(tree.Problems) == 0 || len(tree.Problems.Of(Broken)) > 0 {
			t.Errorf("%s: sound %t, %v", name, ok, tree.Problems)
		}
		if ns := s.Namespaces; ns.File != "" && ns.Valid["main"].ProxyPort == nil {
			t.Errorf("%s: the namespace is %v", name, ns)
		}
	}
}

// Whoever forms an app keeps the last good team while nobody knows what it is, and
// only then.
func TestTeamThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		monitoring, instance string
		want                 string // "?" for unknown
	}{
		"known":                         {"team: a", "{}", "a"},
		"no file":                       {"", "{}", ""},
		"the instance's own":            {"team: a", "{monitoring: {team: b}}", "b"},
		"the instance's is empty":       {"team: a", "{monitoring: {team: }}", "a"},
		"no YAML":                       {"team: \"", "{}", "?"},
		"empty":                         {"# nothing", "{}", "?"},
		"null":                          {"~", "{}", "?"},
		"a list":                        {"[]", "{}", "?"},
		"nothing on purpose":            {"{}", "{}", ""},
		"of another kind":               {"team: [a]", "{}", "?"},
		"no YAML, but the instance's":   {"team: \"", "{monitoring: {team: b}}", "b"},
		"no YAML, the instance's empty": {"team: \"", "{monitoring: {team: , page: true}}", "?"},
		"the instance's of another":     {"team: a", "{monitoring: {team: [b]}}", "?"},
	} {
		archive := "-- web/marathon-norcal.yaml --\nmain: " + tt.instance + "\n"
		if tt.monitoring != "" {
			archive += "-- web/monitoring.yaml --\n" + tt.monitoring + "\n"
		}
		tree, err := Load(t.Context(), unpack(t, txtar.Parse([]byte(archive))), Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := tree.Services["web"].Instances["norcal"].Valid["main"].Monitoring
		if m.TeamUnknown != (tt.want == "?") || !m.TeamUnknown && m.Team != tt.want {
			t.Errorf("%s: team %q, unknown %t, want %q", name, m.Team, m.TeamUnknown, tt.want)
		}
	}
}

// What cannot run, or must not.
func TestBroken(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 200)
	for name, archive := range map[string]string{
		"no network":                 "-- web/marathon-norcal.yaml --\nmain: {net: none}\n",
		"a task id of over 255":      "-- web/marathon-norcal.yaml --\n" + long + ": {}\n",
		"a user that is an option":   "-- web/service.yaml --\ngit_url: -oProxyCommand=x@host:path\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"in a URL":                   "-- web/service.yaml --\ngit_url: ssh://-oProxyCommand=x@host/path\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"escaped":                    "-- web/service.yaml --\ngit_url: ssh://%2DoProxyCommand=x@host/path\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"a host":                     "-- web/service.yaml --\ngit_url: git@-oProxyCommand=x:path\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"a host of a URL":            "-- web/service.yaml --\ngit_url: ssh://-oProxyCommand=x/path\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"a path":                     "-- web/service.yaml --\ngit_url: git@host:--upload-pack=x\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"a helper program":           "-- web/service.yaml --\ngit_url: ext::sh\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"a registry that is none":    "-- web/service.yaml --\ndocker_registry: --privileged\n-- web/marathon-norcal.yaml --\nmain: {}\n",
		"an option in base 60":       "-- web/marathon-norcal.yaml --\nmain: {instances: 12:30}\n",
		"an option that is no word":  "-- web/marathon-norcal.yaml --\nmain: {extra_docker_args: {--privileged: x}}\n",
		"a capability":               "-- web/marathon-norcal.yaml --\nmain: {cap_add: [--privileged]}\n",
		"a network":                  "-- web/marathon-norcal.yaml --\nmain: {net: --privileged}\n",
		"an empty namespace":         "-- web/smartstack.yaml --\nmain:\n",
		"an unknown key of itself":   "-- web/smartstack.yaml --\nmain: &a {x: *a}\n",
		"reserved tls":               "-- web/smartstack.yaml --\nmain: {proxy_port: 20001, tls: {}}\n",
		"reserved callers":           "-- web/smartstack.yaml --\nmain: {proxy_port: 20001, allowed_callers: }\n",
		"a slip in a reserved key":   "-- web/smartstack.yaml --\nmain: {proxy_port: 20001, allowed_caller: [a]}\n",
		"a reserved key of template": "-- web/smartstack.yaml --\n_t: &t {tls: true}\nmain: {<<: *t, proxy_port: 20001}\n",
	} {
		tree, err := Load(t.Context(), unpack(t, txtar.Parse([]byte(archive))), Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := tree.Services["web"]
		if len(s.Instances["norcal"].Valid)+len(s.Namespaces.Valid) > 0 || len(tree.Problems.Of(Broken)) == 0 || tree.Problems.Of(Broken)[0].Line == 0 {
			t.Errorf("%s: %v", name, tree.Problems)
		}
	}
}

// Names of which a host name or a task id cannot be made are refused where they
// stand, and the longest that fit are not.
func TestNamesThatCannotExist(t *testing.T) {
	t.Parallel()
	a := func(n int) string { return strings.Repeat("a", n) }
	const taskOf = 255 - len("web..git12345678.config12345678.instance-01234567-89ab-cdef-0123-456789abcdef._app.100")
	for name, tt := range map[string]struct {
		service, instance string
		class             Class
		want              string // "" for nothing
	}{
		"an instance of 63 bytes":                 {"web", a(63), Note, ""},
		"an instance of 64 bytes":                 {"web", a(64), Wrong, "is 64 bytes long in host names"},
		"one whose _ counts twice":                {"web", a(61) + "_b", Wrong, "is 64 bytes long in host names"},
		"a service of 63 bytes":                   {a(63), "main", Note, ""},
		"a service of 64 bytes":                   {a(64), "main", Wrong, "the service's name is 64 bytes long in host names"},
		"a task id of 255 bytes":                  {"web", a(taskOf), Wrong, "bytes long in host names"},
		"a task id of 256 bytes":                  {"web", a(taskOf + 1), Broken, "ids of tasks would have 256 bytes, and Mesos takes 255"},
		"a task id that the service makes long":   {a(taskOf), "main", Broken, "ids of tasks would have 256 bytes, and Mesos takes 255"},
		"a task id whose _ make it long, doubled": {"web", a(taskOf-2) + "_b", Broken, "ids of tasks would have 256 bytes, and Mesos takes 255"},
	} {
		tree, err := Load(t.Context(), unpack(t, txtar.Parse([]byte("-- "+tt.service+"/marathon-norcal.yaml --\n\n"+tt.instance+": {}\n"))), Options{})
		if err != nil {
			t.Fatal(err)
		}
		entries := tree.Services[tt.service].Instances["norcal"]
		if _, sound := entries.Valid[tt.instance]; sound != (tt.class != Broken) {
			t.Errorf("%s: sound %t", name, sound)
		}
		switch p := tree.Problems; {
		case tt.want == "" && len(p) == 0:
		case len(p) != 1 || p[0].Class != tt.class || p[0].Line != 2 || p[0].Column != 1 || !strings.Contains(p[0].Text, tt.want):
			t.Errorf("%s: %v, want %q", name, p, tt.want)
		}
	}
}

// Every key that promises what is not there yet has a note at its place, and
// nothing else comes of it.
func TestWhatDoesNothingYetIsNoted(t *testing.T) {
	t.Parallel()
	for file, lines := range map[string][]string{
		"marathon-norcal.yaml": {
			"main:",
			"  max_instances: 5 # autoscaling does nothing yet: the size changes only by hand",
			"  extra_docker_args:",
			"    e: A=1 # Mesos passes it as --e, which docker run does not know: write the long form",
			"    hostname: h",
			"  env:",
			"    PASSWORD: SECRET(password) # does nothing yet: the task gets this text and not the secret",
			"    SHARED: SHARED_SECRET(other) # does nothing yet: the task gets this text and not the secret",
			"    PLAIN: text",
			"  security:",
			"    outbound_firewall: block # does nothing yet: no traffic is watched or blocked",
			"  replication_threshold: 80 # does nothing yet: nobody is alerted",
			"  monitoring_blacklist: [] # does nothing yet: nobody is alerted",
			"  monitoring:",
			"    team: people",
			"    page: true # does nothing yet: nobody is alerted",
			"    alert_after: 5m # does nothing yet: nobody is alerted",
			"other:",
			"  autoscaling: {setpoint: 0.5} # autoscaling does nothing yet: the size changes only by hand",
		},
		"monitoring.yaml": {
			"team: people",
			"runbook: y/rb",
			"page: true # does nothing yet: nobody is alerted",
			"ticket: false # does nothing yet: nobody is alerted",
			"notification_email: a@b.c # does nothing yet: nobody is alerted",
			"slack_channels: ['#a'] # does nothing yet: nobody is alerted",
			"irc_channels: a # does nothing yet: nobody is alerted",
			"alert_after: 5m # does nothing yet: nobody is alerted",
			"realert_every: 1 # does nothing yet: nobody is alerted",
			"check_every: 1m # does nothing yet: nobody is alerted",
			"project: P # does nothing yet: nobody is alerted",
			"priority: 1 # does nothing yet: nobody is alerted",
			"tags: [a] # does nothing yet: nobody is alerted",
			"component: a # does nothing yet: nobody is alerted",
			"check_oom_events: true # does nothing yet: nobody is alerted",
		},
		"deploy.yaml": {
			"pipeline:",
			"- step: norcal.main",
			"  slack_notify: true # does nothing yet: Slack is not told",
			"  notify_after_mark: true # does nothing yet: Slack is not told",
			"  notify_after_abort: true # does nothing yet: Slack is not told",
			"  notify_after_good_deploy: true # does nothing yet: Slack is not told",
			"  notify_after_auto_rollback: true # does nothing yet: Slack is not told",
			"- step: norcal.other",
			"slack_channels: ['#a'] # does nothing yet: Slack is not told",
			"slack_notify: true # does nothing yet: Slack is not told",
		},
	} {
		var want []string
		for i, line := range lines {
			if key, note, ok := strings.Cut(line, " # "); ok {
				want = append(want, fmt.Sprintf("%d:%d: %s", i+1, len(key)-len(strings.TrimLeft(key, " "))+1, note))
			}
		}
		text := strings.Join(lines, "\n") + "\n"
		if file != "marathon-norcal.yaml" {
			text += "-- web/marathon-norcal.yaml --\nmain: {}\nother: {}\n"
		}
		tree, err := Load(t.Context(), unpack(t, txtar.Parse([]byte("-- web/"+file+" --\n"+text))), Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := tree.Services["web"]
		var got []string
		for _, p := range s.Notes {
			if p.Line > 0 {
				got = append(got, fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Text))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(tree.Problems) > 0 || len(s.Instances["norcal"].Valid) != 2 {
			t.Errorf("%s (-want +got):\n%s%v", file, diff, tree.Problems)
		}
	}
}

// yamlTable is how a plain scalar is read where a text, a number or a boolean is
// wanted, beside how PyYAML reads it. The reference has it.
func yamlTable() string {
	var b strings.Builder
	b.WriteString("| written | as a text | as a number | as a boolean | PyYAML |\n|---|---|---|---|---|\n")
	for _, scalar := range []string{
		"abc", "1", "-1", "+1", "1.5", ".5", "-.5", "1.", "1e3", "1.5e3", "1.5e+3", "08", "012", "0o17", "0x1F", "0b11", "1_000",
		"12:30", "1:30.5", "true", "True", "yes", "On", "no", "off", "y", "~", "null", "2020-01-01", "2020-01-01 10:00:00", ".inf", ".nan", "=", "1.10", "'1'",
		"99999999999999999999",
	} {
		as := func(s *shape) string {
			d := parseDocument("f", []byte("a: "+scalar+"\n"))
			c := &checker{}
			v := c.check(d.root.fields[0].key, d.root.fields[0].value, s)
			mark := ""
			for _, p := range c.problems {
				mark = map[Class]string{Broken: "error", Wrong: ", wrong", Note: ", noted"}[p.Class]
			}
			switch {
			case v == nil:
				return "error"
			case s.kind == number:
				return "`" + decimal(v.number) + "`" + mark
			case s.kind == boolean:
				return fmt.Sprint(v.truth()) + mark
			}
			return "`" + v.text + "`" + mark
		}
		d := parseDocument("f", []byte("a: "+scalar+"\n"))
		py := d.root.fields[0].value.pyyaml()
		reads := py.text
		if py.kind == text {
			reads = "text"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", scalar, as(aText()), as(aNumber()), as(aBool()), reads)
	}
	return b.String()
}
