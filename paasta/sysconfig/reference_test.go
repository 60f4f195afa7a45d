package sysconfig

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the reference")

// meanings is what the reference says about each key.
var meanings = map[string]string{
	"cluster":                           "Name of this cluster. Daemons need it.",
	"clusters":                          "All clusters: files in soa-configs for others are mistakes. Default: this one.",
	"soa_dir":                           "Directory of soa-configs.",
	"zookeeper":                         "`h1:2181,h2:2181`, also as `zk://…`.",
	"zookeeper_auth":                    "`user:password` for digest authentication; nodes that we create then carry ACLs.",
	"docker_registry":                   "`host:port` of the registry of all services that name none.",
	"volumes":                           "Paths of the host in every container: `{hostPath, containerPath, mode}`, mode `RO` (default) or `RW`.",
	"dockercfg_location":                "URI of the credentials with which agents pull images.",
	"marathon_servers":                  "`{url: [http://m1:8080, http://m2:8080], user, password}`: the masters of one Marathon; whoever answers is asked. A second entry is another Marathon (a shard), which `paasta api` shows and deployd refuses.",
	"mesos_masters":                     "`[http://m1:5050, http://m2:5050]`, with `user:password@` where they want it: the masters of the Mesos below Marathon, through which `paasta api` finds the output of tasks (`paasta logs`). Credentials are used for the agents, too.",
	"expected_agent_attributes":         "The attributes of each agent that should exist, for spreading over locations. PaaSTA's `expected_slave_attributes` is understood.",
	"deploy_blacklist":                  "`[[attribute, value], …]`: agents that run nothing.",
	"deploy_whitelist":                  "`[attribute, [value, …]]`: the only agents that run anything.",
	"auto_hostname_unique_size":         "Instances up to this size never have two tasks on one host; -1: no such rule.",
	"api_endpoints":                     "Cluster → URL of its `paasta api`, for the CLI.",
	"api_token":                         "Bearer token that the CLI sends.",
	"api_ca":                            "PEM file of an authority that the CLI trusts besides the machine's.",
	"api_cert":                          "Client certificate of the CLI, a PEM file.",
	"api_key":                           "Its key, a PEM file.",
	"dashboard_links":                   "Cluster → title → URLs, shown on the dashboard.",
	"security_check_command":            "What `paasta security-check` runs.",
	"local_run_cluster":                 "Cluster that local runs take their settings from. PaaSTA's `local_run_config.default_cluster` is understood.",
	"location":                          "Where this host is: location type → value, e.g. `region: uswest1`.",
	"location_types":                    "Location types, broad to narrow.",
	"location_parents":                  "`type:name` → the broader `type:name` that it is in.",
	"hostname":                          "Name of this host. Default: what the kernel says.",
	"deployd.listen":                    "Address of deployd's status, health and metrics.",
	"deployd.workers":                   "How many instances are worked on at once.",
	"deployd.resync":                    "How often everything is looked at without an event.",
	"deployd.git_poll":                  "How often tags are read from a repository without a hook.",
	"deployd.git_poll_hooked":           "How often from one with a hook.",
	"deployd.deployments":               "`tags`, or `file` to read deployments.json from soa_dir.",
	"deployd.big_bounce_rate":           "Apps a minute that are refreshed after a change of system-wide settings.",
	"drain_grace":                       "Time that hosts get which still run Airbnb's synapse: between a drain and the end of a task, and between the registration of one and the drain of another. Longer where an agent took longer. 0: no host runs synapse.",
	"deployd.drain_timeout":             "Longest drain of a task, where its instance says nothing else.",
	"api.listen":                        "Address of the API. Beyond loopback it needs TLS, and tokens or client certificates.",
	"api.tls_cert":                      "Certificate, a PEM file.",
	"api.tls_key":                       "Its key, a PEM file.",
	"api.client_ca":                     "Authority of client certificates, a PEM file.",
	"api.tokens":                        "Bearer tokens that are accepted.",
	"smartstack.state_dir":              "Cache, haproxy.cfg and sockets.",
	"smartstack.listen":                 "Address of the agent's status, health and metrics.",
	"smartstack.announce":               "URL under which masters reach that. Default: `http://` and `smartstack.listen`, with `hostname` where that is all addresses. A request must name an address, `hostname` (also with a domain of resolv.conf), or the host of this URL.",
	"smartstack.stats_listen":           "Address of HAProxy's CSV page.",
	"smartstack.bind_addresses":         "Addresses of the load balancer's ports.",
	"smartstack.setup_address":          "Put the link-local ones of these on `lo`.",
	"smartstack.haproxy":                "Path or name of the HAProxy binary.",
	"smartstack.services_dir":           "Files about services that Marathon does not run.",
	"smartstack.synapse_services_dir":   "Where to write JSON files for other tools; empty: nowhere.",
	"smartstack.custom_config":          "File with an operator's own HAProxy sections.",
	"smartstack.maxconn":                "HAProxy's limit of connections.",
	"smartstack.check_interval":         "Time between HAProxy's checks of a backend.",
	"smartstack.check_fastinter":        "The same while a backend changes.",
	"smartstack.reload.protect":         "How new connections are held during a reload: `auto`, `qdisc`, `nfqueue` or `none`.",
	"smartstack.reload.min_interval":    "Time between two reloads.",
	"smartstack.reload.hold":            "Longest time that connections are held.",
	"smartstack.reload.hard_stop_after": "When old HAProxy processes are stopped, connections or not.",
	"smartstack.reload.interfaces":      "Bridges whose traffic is held as well.",
	"smartstack.nerve":                  "Check and register what `smartstack.services_dir` holds.",
	"smartstack.graphite":               "`host:port` for metrics in Graphite's plain text; empty: none.",
	"smartstack.log_socket":             "Make metrics of requests from HAProxy's log.",
	"smartstack.removal_floor":          "Share of a service's backends that may be removed within `smartstack.removal_window`.",
	"smartstack.removal_window":         "See `smartstack.removal_floor`.",
}

// TestReferenceIsFresh writes docs/reference/system-config.md (go test -update).
func TestReferenceIsFresh(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# System config

Our own settings, of one machine. Every ` + "`*.yaml`, `*.yml` and `*.json`" + ` file below ` + "`/etc/paasta`" + ` (or ` + "`$PAASTA_SYSTEM_CONFIG_DIR`" + `) counts;
which file says what does not matter. Objects merge; two files that set one key differently are an error that names both, and so is a key
that is not in this list. Hidden names and ` + "`services.d`" + ` are left out. Without ` + "`/etc/paasta`" + ` the config is empty; a directory that the variable names must exist.
A file that cannot be read is an error: give secrets to the daemon that needs them as variables instead.

The variable in the last column goes over the files. Durations are written ` + "`90s`, `10m`, `1h30m`" + `; a bare number is seconds.
Variables for lists of texts are separated by commas; other lists and objects are JSON.

This page is written from the code; do not edit it.

| key | type | default | | variable |
|---|---|---|---|---|
`)
	seen := map[string]bool{}
	for _, l := range leaves(reflect.TypeFor[Config](), nil) {
		key := strings.Join(l.path, ".")
		seen[key] = true
		meaning, ok := meanings[key]
		if !ok {
			t.Errorf("%s has no meaning in the reference", key)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `%s` |\n", key, kindOf(l.typ), defaultOf(key), meaning, l.env())
	}
	for key := range meanings {
		if !seen[key] {
			t.Errorf("the reference explains %s, which is no key", key)
		}
	}
	const path = "../../docs/reference/system-config.md"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s is stale; run go test -update (-want +got):\n%s", path, diff)
	}
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	}
	return map[reflect.Kind]string{
		reflect.String: "text", reflect.Int: "integer", reflect.Float64: "number", reflect.Bool: "true or false", reflect.Map: "object",
	}[t.Kind()]
}

func defaultOf(key string) string {
	switch d := defaults[key].(type) {
	case nil:
		return ""
	case []string:
		return "`" + strings.Join(d, "`, `") + "`"
	case time.Duration:
		text := d.String()
		text = strings.TrimSuffix(strings.TrimSuffix(text, "m0s"), "h0")
		if d >= time.Minute && !strings.HasSuffix(text, "s") {
			text += "m"
		}
		return "`" + text + "`"
	default:
		return fmt.Sprintf("`%v`", d)
	}
}
