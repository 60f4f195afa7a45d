package deployd_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

// deployed is what deployd recorded of web's only group.
func (w *world) deployed() []paasta.DeployRecord {
	text, _, err := w.conn.Get(w.ctx(), paasta.DeployedPath(cluster, "web"))
	if err != nil {
		return nil
	}
	var groups map[string][]paasta.DeployRecord
	must(w.t, json.Unmarshal(text, &groups))
	return groups[cluster+".main"]
}

// ran waits until the records are of these commits, "!" for those that never ran.
func (w *world) ran(want ...string) []paasta.DeployRecord {
	w.t.Helper()
	var records []paasta.DeployRecord
	w.until("records", func() string {
		records = w.deployed()
		var got []string
		for _, r := range records {
			sha := r.GitSHA
			if r.Deployed.IsZero() {
				sha = "!" + sha
			}
			got = append(got, sha)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
	return records
}

// What was fully deployed is known, and why the rest was not, also after
// ZooKeeper has lost its data.
func TestDeploysAreRecorded(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	w := newWorldAt(t, server.Addr())
	w.config.Deployd.Resync = time.Second
	w.marathon.Auto(true)
	stop := w.start()
	w.deploy(sha1)
	w.ran(sha1)
	w.marathon.Auto(false) // its tasks never come up
	w.deploy(sha2)
	w.ran(sha1, "!"+sha2)
	w.until("sha2's app", func() string {
		if len(w.marathon.Apps()) != 2 {
			return fmt.Sprint(w.marathon.Apps())
		}
		return ""
	})

	server.Wipe()
	w.until("a session again", w.healthy)
	records := w.ran(sha1, "!"+sha2)
	if r := records[1]; !strings.HasPrefix(r.Why, "main: ") && !strings.HasPrefix(r.Why, "main has not") {
		t.Errorf("why it never ran: %+v", r)
	}
	stop() // another deployd knows as much
	w.start()
	w.marathon.Auto(true)
	w.deploy(sha3)
	records = w.ran(sha1, "!"+sha2, sha3)
	if !records[2].Ended.IsZero() || records[1].Ended.IsZero() {
		t.Errorf("%+v", records)
	}
	w.untilRunning(sha3, 3)
	labels, _ := w.marathon.Definition(w.marathon.Apps()[0])["labels"].(map[string]any)
	if label := labels[marathon.LabelDeployedBefore]; label != sha1 {
		t.Errorf("the app says that %v was deployed before, want %s", label, sha1)
	}
}
