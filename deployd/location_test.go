package deployd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta"
)

// region is a world whose tasks all run in one region, "west".
func region(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.config.LocationTypes = []string{"superregion", "region", "habitat"}
	for _, host := range hosts {
		w.config.ExpectedAgents = append(w.config.ExpectedAgents, map[string]string{"hostname": host, "superregion": "us", "region": "west", "habitat": "west1"})
	}
	w.marathon.Attributes = map[string]string{"pool": "default", "superregion": "us", "region": "west", "habitat": "west1"}
	w.marathon.Auto(true)
	return w
}

// Agents in another region, however many, are asked nothing, and neither a bounce
// nor a drain waits for them: their clients find the task nowhere.
func TestAgentsElsewhereDoNotCount(t *testing.T) {
	t.Parallel()
	w := region(t)
	west := w.agentIn(map[string]string{"superregion": "us", "region": "west"}, "west1", hosts...)
	for n := range 25 {
		w.agentIn(map[string]string{"superregion": "us", "region": "east"}, fmt.Sprint("east", n)).change(func() {})
	}
	silent := w.agentIn(map[string]string{"region": "east"}, "east-silent")
	silent.change(func() { silent.frozen = true })
	silent.http.Close()
	// One that is of an older version does not say where it is; that it does not
	// find the task there is all that it says.
	old := w.agent("east-old")
	old.change(func() { old.elsewhere = true })
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.untilState("steady")
	w.deploy(sha2)
	w.untilRunning(sha2, 3)
	s := w.untilState("steady")
	for _, step := range s.Steps {
		if strings.Contains(step.Why, "as it may") {
			t.Errorf("a drain waited for its timeout: %+v", step)
		}
	}

	// Who is there does count.
	west.change(func() { west.frozen = true })
	w.deploy(sha3)
	w.until("the bounce waits for the agent that is there", func() string {
		if s := w.status("web", "main"); !slices.ContainsFunc(s.Tasks, func(t paasta.BounceTask) bool {
			return strings.Contains(t.Why, "not yet in the HAProxy of west1; up in 0 of 1, 1 are needed")
		}) {
			return fmt.Sprintf("%+v", s.Tasks)
		}
		return ""
	})
	west.change(func() { west.frozen = false })
	w.untilRunning(sha3, 3)
}

// A namespace that is discovered by superregion is seen from other regions too.
func TestAWiderDiscoveryAsksMore(t *testing.T) {
	t.Parallel()
	w := region(t)
	w.soa("web", "smartstack.yaml", smartstack+"  discover: superregion\n  advertise: [superregion]\n")
	w.agentIn(map[string]string{"superregion": "us", "region": "west"}, "west1", hosts...)
	east := w.agentIn(map[string]string{"superregion": "us", "region": "east"}, "east1")
	east.change(func() { east.frozen = true })
	w.start()
	w.deploy(sha1)
	w.until("it waits for the other region", func() string {
		if s := w.status("web", "main"); !slices.ContainsFunc(s.Tasks, func(t paasta.BounceTask) bool {
			return strings.Contains(t.Why, "not yet in the HAProxy of east1; up in 1 of 2, 2 are needed")
		}) {
			return fmt.Sprintf("%+v", s.Tasks)
		}
		return ""
	})
	east.change(func() { east.frozen = false })
	w.untilRunning(sha1, 3)
	w.untilState("steady")
}
