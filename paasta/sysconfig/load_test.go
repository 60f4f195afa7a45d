package sysconfig

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write makes a directory of files from "name": "text".
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestMain takes out the settings of a shell that uses a playground.
func TestMain(m *testing.M) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "PAASTA_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

func TestMissingDirectoryIsEmpty(t *testing.T) {
	c, err := LoadDir(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Deployd.Workers != 4 || c.SoaDir != "/nail/etc/services" || c.Smartstack.CheckInterval != 10*time.Minute ||
		c.HostnameUniqueSize != -1 || c.Hostname == "" || c.Smartstack.Announce != "http://127.0.0.1:3213" {
		t.Errorf("defaults are not there: %+v", c)
	}
}

// A directory that was asked for by name must be there.
func TestNamedDirectoryMustExist(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	t.Setenv("PAASTA_SYSTEM_CONFIG_DIR", dir)
	if _, err := Load(); err == nil || !strings.Contains(err.Error(), "PAASTA_SYSTEM_CONFIG_DIR: "+dir+": no such directory") {
		t.Errorf("got %v", err)
	}
}

func TestFilesMerge(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": `
cluster: Norcal.Prod
clusters: [Norcal.Prod, nova]
api_endpoints: {Norcal.Prod: "http://m1:5054", "ÄÖ": "http://x"}
location_parents: {"habitat:A1": "region:US.West"}
expected_slave_attributes:
  - {Pool: default, region: uswest1}
volumes:
  - {hostPath: /Nail, containerPath: /nail, mode: RO}
deployd:
  git_poll: 2m
`,
		"deeper/b.json":        `{"deployd": {"workers": 8, "resync": 90}, "api_endpoints": {"nova": "http://m2:5054"}, "cluster": "Norcal.Prod", "smartstack": {"removal_floor": 1}}`,
		"services.d/db.yaml":   "not: ours",
		".git/config.yaml":     "not: ours",
		"haproxy/custom.cfg":   "not ours",
		"empty.yaml":           "# nothing yet\n",
		"deeper/marathon.yaml": "marathon_servers: [{url: [\"http://m:8080\"], user: U, password: P}]\ndocker_registry:\n",
	})
	c, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"Norcal.Prod": "http://m1:5054", "nova": "http://m2:5054", "ÄÖ": "http://x"}, c.APIEndpoints); diff != "" {
		t.Errorf("api_endpoints (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"habitat:A1": "region:US.West"}, c.LocationParents); diff != "" {
		t.Errorf("location_parents (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]map[string]string{{"Pool": "default", "region": "uswest1"}}, c.ExpectedAgents); diff != "" {
		t.Errorf("expected_agent_attributes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Volume{{"/Nail", "/nail", "RO"}}, c.Volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Deployd{Listen: "127.0.0.1:5055", Workers: 8, Resync: 90 * time.Second, GitPoll: 2 * time.Minute, GitPollHooked: 10 * time.Minute, Deployments: "tags", BigBounceRate: 6, DrainTimeout: time.Minute}, c.Deployd); diff != "" {
		t.Errorf("deployd (-want +got):\n%s", diff)
	}
	if c.Cluster != "Norcal.Prod" || c.MarathonServers[0].Password != "P" || c.Smartstack.RemovalFloor != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestVariablesGoOverFiles(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": "soa_dir: /from/file\ndeployd: {listen: '127.0.0.1:1'}\n"})
	for name, value := range map[string]string{
		"PAASTA_SYSTEM_CONFIG_DIR":              dir,
		"PAASTA_SOA_DIR":                        "/from/env",
		"PAASTA_DEPLOYD_LISTEN":                 "127.0.0.1:2",
		"PAASTA_DEPLOYD_RESYNC":                 "5s",
		"PAASTA_DEPLOYD_GIT_POLL":               "90",
		"PAASTA_SMARTSTACK_RELOAD_MIN_INTERVAL": "50ms",
		"PAASTA_SMARTSTACK_NERVE":               "false",
		"PAASTA_SMARTSTACK_MAXCONN":             "42",
		"PAASTA_SMARTSTACK_BIND_ADDRESSES":      "10.0.0.1, 10.0.0.2",
		"PAASTA_API_ENDPOINTS":                  `{"Norcal.Prod": "http://m"}`,
		"PAASTA_CLUSTERS":                       "a,b",
		"PAASTA_NOT_A_SETTING":                  "is none of our business",
	} {
		t.Setenv(name, value)
	}
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		c.SoaDir, c.Deployd.Listen, c.Deployd.Resync, c.Deployd.GitPoll, c.Smartstack.Reload.MinInterval, c.Smartstack.Nerve,
		c.Smartstack.MaxConn, c.Smartstack.BindAddresses, c.APIEndpoints, c.Clusters,
	}
	want := []any{
		"/from/env", "127.0.0.1:2", 5 * time.Second, 90 * time.Second, 50 * time.Millisecond, false,
		42,
		[]string{"10.0.0.1", "10.0.0.2"},
		map[string]string{"Norcal.Prod": "http://m"},
		[]string{"a", "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMistakesNameThePlace(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  []string // each is part of the error; DIR stands for the directory
	}{
		"an unknown key": {
			map[string]string{"a.yaml": "soa_dir: /x\nclutser: norcal\n"},
			[]string{`DIR/a.yaml:2:1: clutser: unknown key (did you mean "cluster"?)`},
		},
		"an unknown nested key": {
			map[string]string{"a.yaml": "cluster: a\ndeployd:\n  listen: :1\n  wokers: 3\n"},
			[]string{`DIR/a.yaml:4:3: deployd.wokers: unknown key (did you mean "workers"?)`},
		},
		"a key in the wrong case": {
			map[string]string{"a.json": `{"Cluster": "a"}`},
			[]string{`DIR/a.json:1:2: Cluster: unknown key (did you mean "cluster"?)`},
		},
		"two files that disagree": {
			map[string]string{"a.yaml": "cluster: a\n", "b.json": "{\n\"cluster\": \"b\"}"},
			[]string{`DIR/b.json:2:1: cluster: is b here and a at DIR/a.yaml:1:1; remove one`},
		},
		"two files that disagree deep down": {
			map[string]string{"a.yaml": "api_endpoints:\n  A: http://1\n", "b.yaml": "api_endpoints: {A: 'http://2'}\n"},
			[]string{`DIR/b.yaml:1:17: api_endpoints.A: is http://2 here and http://1 at DIR/a.yaml:2:3; remove one`},
		},
		"all of several mistakes": {
			map[string]string{"a.yaml": "deployd: {workers: many}\nzookeper: x\n", "b.yaml": "cluster: [a]\n"},
			[]string{`a.yaml:1:11: deployd.workers: is the text "many", want an integer`, `a.yaml:2:1: zookeper: unknown key`, `b.yaml:1:1: cluster: is a list, want a text`},
		},
		"a duplicate key in YAML": {
			map[string]string{"a.yaml": "cluster: a\ncluster: b\n"},
			[]string{"DIR/a.yaml:2:1: cluster: is there twice, first in line 1"},
		},
		"a duplicate key in JSON": {
			map[string]string{"a.json": "{\"cluster\": \"a\",\n \"cluster\": \"b\"}"},
			[]string{`DIR/a.json:2:2: cluster: is there twice, first in line 1`},
		},
		"no YAML":                {map[string]string{"a.yaml": "a: b\ncluster: [\n"}, []string{"DIR/a.yaml:3:1: is no YAML: did not find expected node content"}},
		"no JSON":                {map[string]string{"a.json": "{\n\"a\": x"}, []string{"DIR/a.json:3:1: is no YAML: did not find expected ',' or '}'"}},
		"half a JSON":            {map[string]string{"a.json": "{\n\"cluster\": \"a\""}, []string{"DIR/a.json:3:1: is no YAML: did not find expected ',' or '}'"}},
		"a list in JSON":         {map[string]string{"a.json": "[1]"}, []string{"DIR/a.json:1:1: is a list, want KEY: VALUE in it"}},
		"a list":                 {map[string]string{"a.yaml": "- a\n"}, []string{"DIR/a.yaml:1:1: is a list, want KEY: VALUE in it"}},
		"bytes":                  {map[string]string{"a.yaml": "\x00\xff\xfe"}, []string{"DIR/a.yaml:1:2: is no YAML: "}},
		"a number as a key":      {map[string]string{"a.yaml": "location: {1: a}\n"}, []string{`DIR/a.yaml:1:12: location.1: unknown location type "1"`}},
		"a bad duration":         {map[string]string{"a.yaml": "deployd: {resync: soon}\n"}, []string{`DIR/a.yaml:1:11: deployd.resync: "soon" is no duration`}},
		"an unknown choice":      {map[string]string{"a.yaml": "smartstack:\n  reload:\n    protect: qdsic\n"}, []string{`DIR/a.yaml:3:5: smartstack.reload.protect: unknown value "qdsic" (known: auto, qdisc, nfqueue, none) (did you mean "qdisc"?)`}},
		"a slip in PaaSTA's key": {map[string]string{"a.yaml": "synapse_prot: 3212\n"}, []string{`DIR/a.yaml:1:1: synapse_prot: unknown key (did you mean "synapse_port"?)`}},
		"a cluster not known":    {map[string]string{"a.yaml": "cluster: a\nclusters: [b]\n"}, []string{`DIR/a.yaml:1:1: cluster: "a" is not among clusters (b)`}},
		"an alias and its name":  {map[string]string{"a.yaml": "deployd_number_workers: 3\ndeployd: {workers: 4}\n"}, []string{"deployd_number_workers: is PaaSTA's name of deployd.workers, which is there too"}},
		"a huge file":            {map[string]string{"a.yaml": strings.Repeat("# filling\n", 1<<17)}, []string{"DIR/a.yaml: is 1310720 bytes long; files of up to"}},
		"a text for an object":   {map[string]string{"a.yaml": "deployd: yes please\n"}, []string{`a.yaml:1:1: deployd: is the text "yes please", want an object`}},
		"a whitelist without []": {map[string]string{"a.yaml": "deploy_whitelist: [region, a]\n"}, []string{"a.yaml:1:1: deploy_whitelist: want [attribute, [value, …]]"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, tc.files)
			_, err := LoadDir(dir)
			if err == nil {
				t.Fatal("loaded without an error")
			}
			got := strings.ReplaceAll(err.Error(), dir, "DIR")
			if strings.Count(got, "\n") != strings.Count(got, "\nDIR/") {
				t.Errorf("a mistake is more than a line:\n%s", got)
			}
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			}
		})
	}
}

func TestBadVariable(t *testing.T) {
	t.Setenv("PAASTA_DEPLOYD_WORKERS", "0")
	if _, err := LoadDir(t.TempDir()); err == nil || !strings.Contains(err.Error(), "PAASTA_DEPLOYD_WORKERS: deployd.workers: is 0, want at least 1") {
		t.Errorf("got %v", err)
	}
	t.Setenv("PAASTA_DEPLOYD_WORKERS", "many")
	if _, err := LoadDir(t.TempDir()); err == nil || !strings.Contains(err.Error(), `PAASTA_DEPLOYD_WORKERS: is "many", want an integer`) {
		t.Errorf("got %v", err)
	}
}

func TestBadVariables(t *testing.T) {
	for name, tc := range map[string]struct{ variable, value, want string }{
		"words for an object":      {"PAASTA_API_ENDPOINTS", "a=http://a", `PAASTA_API_ENDPOINTS: is "a=http://a", want a JSON object such as {"a": "b"}`},
		"a list for an object":     {"PAASTA_API_ENDPOINTS", `["a"]`, `PAASTA_API_ENDPOINTS: api_endpoints: is a list, want an object with text keys`},
		"half an object":           {"PAASTA_API_ENDPOINTS", `{"a": `, `PAASTA_API_ENDPOINTS: is "{\"a\":", which is no JSON: unexpected end`},
		"a number for a URL":       {"PAASTA_API_ENDPOINTS", `{"a": 1}`, `PAASTA_API_ENDPOINTS: api_endpoints.a: is 1, want a text`},
		"words for objects":        {"PAASTA_VOLUMES", "/a", `PAASTA_VOLUMES: is "/a", want a JSON list`},
		"an unknown key in them":   {"PAASTA_VOLUMES", `[{"hostPaht": "/a"}]`, `PAASTA_VOLUMES: volumes.hostPaht: unknown key (did you mean "hostPath"?)`},
		"numbers for texts":        {"PAASTA_CLUSTERS", `[1]`, `PAASTA_CLUSTERS: clusters: is 1, want a text`},
		"a word for a duration":    {"PAASTA_DEPLOYD_RESYNC", "soon", `PAASTA_DEPLOYD_RESYNC: is "soon", want a duration`},
		"a word for true or false": {"PAASTA_SMARTSTACK_NERVE", "on", `PAASTA_SMARTSTACK_NERVE: is "on", want true or false`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tc.variable, tc.value)
			if _, err := LoadDir(t.TempDir()); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestLinks(t *testing.T) {
	dir := write(t, map[string]string{"..data/a.yaml": "cluster: a\n"})
	for name, target := range map[string]string{"a.yaml": "..data/a.yaml", "loop": ".", "nowhere": "gone"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := LoadDir(dir); err != nil || c.Cluster != "a" {
		t.Errorf("got %q, %v", c.Cluster, err)
	}
	if err := os.Symlink("gone", filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadDir(dir); err == nil || !strings.Contains(err.Error(), "b.yaml") {
		t.Errorf("a dangling file: got %v", err)
	}
}

// Every default belongs to a key, and no two keys share a variable.
func TestKeys(t *testing.T) {
	seen := map[string]string{}
	var keys []string
	for _, l := range leaves(reflect.TypeFor[Config](), nil) {
		key := strings.Join(l.path, ".")
		keys = append(keys, key)
		if other, ok := seen[l.env()]; ok {
			t.Errorf("%s and %s are both set by %s", key, other, l.env())
		}
		seen[l.env()] = key
	}
	for key := range defaults {
		if !slices.Contains(keys, key) {
			t.Errorf("default of %q, which is no key", key)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("cluster: a\n", `{"deployd": {"workers": 3}}`)
	f.Add("a: &a [*a]\n", "{}")
	f.Add("location: {A: b}\n", "[]")
	f.Fuzz(func(t *testing.T, yaml, json string) {
		dir := write(t, map[string]string{"a.yaml": yaml, "b.json": json})
		if _, err := LoadDir(dir); err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Errorf("an error that says nothing for %q, %q", yaml, json)
		}
	})
}

// Viper folds keys and splits them at dots; what users name must not change.
func TestKeysOfUsersStay(t *testing.T) {
	want := map[string]string{"": "1", "a": "2", "Norcal.Prod": "3", "ÄÖx": "4", "region:US": "5", "İ": "6"}
	text, err := json.Marshal(map[string]any{
		"api_endpoints": want, "dashboard_links": map[string]any{"Norcal.Prod": map[string][]string{"My Link": {"x"}}},
		"expected_agent_attributes": []map[string]string{{"Pool": "A"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadDir(write(t, map[string]string{"a.json": string(text)}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.APIEndpoints); diff != "" {
		t.Error(diff)
	}
	if c.DashboardLinks["Norcal.Prod"]["My Link"] == nil || c.ExpectedAgents[0]["Pool"] != "A" {
		t.Errorf("%v, %v", c.DashboardLinks, c.ExpectedAgents)
	}
}

// A cluster's /etc/paasta as PaaSTA 0.86 has it: what we do not use is noted.
func TestPaaSTAsOwnConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PAASTA_SYSTEM_CONFIG_DIR", dir)
	for name, text := range map[string]string{
		"cluster.json":    `{"cluster": "norcal", "clusters": ["norcal"], "zookeeper": "zk://zk:2181/mesos", "docker_registry": "registry:443"}`,
		"marathon.json":   `{"marathon_servers": [{"url": ["http://marathon:8080"], "user": "u", "password": "p"}], "previous_marathon_servers": [], "mesos_config": {"path": "/nail/etc/mesos-cli.json"}}`,
		"chronos.json":    `{"chronos_config": {"user": "x", "password": "y", "url": ["http://chronos"]}}`,
		"logs.json":       `{"log_writer": {"driver": "file", "options": {}}, "log_reader": {"driver": "scribereader", "options": {}}}`,
		"sensu.json":      `{"sensu_host": null, "sensu_port": 3030, "monitoring_config": {}}`,
		"deployd.json":    `{"deployd_number_workers": 4, "deployd_big_bounce_deadline": 3600.5, "deployd_startup_oracle_enabled": true}`,
		"autoscaler.json": `{"cluster_autoscaling_resources": {"id": {"type": "aws"}}, "cluster_boost_enabled": true, "resource_pool_settings": {}}`,
		"other.json":      `{"register_k8s_pods": false, "our_own_tool": {"a": [1]}, "taskproc": {}, "vault_cluster_map": {}, "slack": {"token": "x"}}`,
		"native.yaml":     "paasta_native:\n  principal: x\nsynapse_port: 3212\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load()
	if err != nil || c.Cluster != "norcal" || c.Deployd.Workers != 4 {
		t.Fatalf("%+v, %v", c, err)
	}
	notes := strings.Join(Notes(), "\n")
	for _, want := range []string{
		"chronos.json:1:2: chronos_config: PaaSTA's key does nothing here\n",
		"native.yaml:3:1: synapse_port: PaaSTA's key does nothing here: see smartstack.stats_listen\n",
		"other.json:1:30: our_own_tool: unknown key: it does nothing\n",
	} {
		if !strings.Contains(notes+"\n", want) {
			t.Errorf("no %q in\n%s", want, notes)
		}
	}
}
