package soaconfig

import (
	"fmt"
	"strings"
	"testing"

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
