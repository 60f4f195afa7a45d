package deployd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta"
)

// What is wrong in soa-configs, and not broken, is deployed.
func TestWhatIsWrongIsDeployed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	// Each of these, and all of them together, froze the instance once.
	w.soa("web", "service.yaml", "git_url: fake:web\ndesciption: a slip of the pen\nexternal_link: \"\"\nrunbook:\n")
	w.soa("web", "smartstack.yaml", "main: {proxy_port: 20001, not_known_yet: {a: 1}}\n")
	w.soa("web", "monitoring.yaml", "alert_after: 1h30m of it\npagee: true\n")
	w.soa("web", "dependencies.yaml", "- no object\n")
	w.instance("instances: 3\nnot_known_yet: 1\nregistrations: []\ndeploy_whitelist: []\nhealthcheck_cmd: /bin/true\nmonitoring: {page: perhaps}\nsecurity: {outbound_firewall: blok}\nmax_instances:\n")
	for i, deploy := range []string{
		"pipeline:\n- step: elsewhere\n", // the group is no step
		"pipeline: [{step: " + cluster + ".main, not_known_yet: 1}]\nproduction_deploy_group: gone\n", // unknown keys
		"- no object\n", // cannot be read
		"",              // is not there
	} {
		w.soa("web", "deploy.yaml", deploy)
		sha := []string{sha2, sha3}[i%2]
		w.deploy(sha)
		w.untilRunning(sha, 3)
	}
}

// A namespace with a reserved key holds new apps back, and says why.
func TestReservedKeysFailClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.soa("web", "smartstack.yaml", "main: {proxy_port: 20001, allowed_callers: [api]}\n")
	w.untilState("failed")
	w.deploy(sha2)
	w.soa("web", "marathon-"+cluster+".yaml", "main: {cpus: 0.1, mem: 64, instances: 3}\nlast: {instances: 0}\n")
	w.until("follow soa-configs and tags", func() string {
		if text := w.get("/v1/instances"); !strings.Contains(text, `"last"`) {
			return text
		}
		return ""
	})
	w.untilState("failed")
	w.untilRunning(sha1, 3)
	w.soa("web", "smartstack.yaml", smartstack)
	w.untilRunning(sha2, 3)
}

// While the team cannot be read, apps have the one that they had.
func TestTheLastTeamStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.soa("web", "monitoring.yaml", "team: infra\n")
	w.marathon.Auto(true)
	stop := w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	for i, broken := range []string{"team: [infra]\n", "- no object\n", "team: \"open\n"} {
		w.soa("web", "monitoring.yaml", broken)
		stop() // what a daemon remembers is not enough
		stop = w.start()
		sha := []string{sha2, sha3}[i%2]
		w.deploy(sha)
		app := w.untilRunning(sha, 3)
		if team := w.marathon.Definition(app)["env"].(map[string]any)["PAASTA_MONITORING_TEAM"]; team != "infra" {
			t.Errorf("with %q its team is %v", broken, team)
		}
	}
	before := w.marathon.Posted()
	w.soa("web", "monitoring.yaml", "team: infra\n")
	w.tag(cluster+".main", paasta.TagDeploy, sha1)
	w.kick("web")
	w.untilRunning(sha1, 3)
	if n := len(w.marathon.Posted()) - len(before); n != 1 || w.status("web", "main").Stale {
		t.Errorf("%d apps were made for one deploy: %v", n, fmt.Sprint(slices.Clone(w.marathon.Posted())))
	}
}
