package deployd_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta"
)

// Stops, starts, restarts and deploys need tags, not configs: while the file of an
// instance is broken, what was valid before stands.
func TestTagsAreObeyedWhileSoaConfigsAreBroken(t *testing.T) {
	for name, broken := range map[string]string{
		"an instance":      "main: {instances: many}\n",
		"an open quote":    "main: {instances: 3, cmd: \"sleep\n",
		"no mapping":       "[]\n",
		"nothing":          "\n",
		"an open sequence": "main: [\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.marathon.Auto(true)
			w.start()
			w.deploy(sha1)
			w.untilRunning(sha1, 3)
			w.soa("web", "marathon-"+cluster+".yaml", broken)
			w.until("see the broken file", func() string {
				if s := w.status("web", "main"); !strings.Contains(s.Why, "its config is broken") {
					return fmt.Sprintf("%+v", s)
				}
				return ""
			})
			app := w.untilRunning(sha1, 3)
			w.tag(cluster+".main", paasta.TagStop, sha1)
			w.kick("web")
			w.untilState("stopped")
			w.tag(cluster+".main", paasta.TagStart, sha1)
			w.kick("web")
			if again := w.untilRunning(sha1, 3); again == app {
				t.Errorf("started again as %s", again)
			}
			w.deploy(sha2)
			w.untilRunning(sha2, 3)
			w.deploy(sha1) // a rollback
			w.untilRunning(sha1, 3)
			w.instance("instances: 2\n")
			w.untilRunning(sha1, 2)
		})
	}
}

// A deployd that has never read the file validly knows how to stop what runs, and
// nothing else.
func TestAStopIsObeyedByAFreshDeployd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	stop := w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	stop()
	w.soa("web", "marathon-"+cluster+".yaml", "main: {instances: many}\n")
	w.start()
	w.untilState("failed")
	w.deploy(sha2)
	w.untilState("failed")
	w.untilRunning(sha1, 3)
	w.tag(cluster+".main", paasta.TagStop, sha2)
	w.kick("web")
	w.untilState("stopped")
	w.instance("instances: 3\n")
	w.tag(cluster+".main", paasta.TagStart, sha2)
	w.kick("web")
	w.untilRunning(sha2, 3)
}
