package deployd_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gopaasta/paasta/deployd"
	"github.com/gopaasta/paasta/paasta"
)

// A command's kick says nothing of a hook: a tag that plain git pushes after it
// is found by the next poll. A hook's kick does, and the polls become rare.
func TestOnlyAHookSparesPolls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.soa("other", "service.yaml", "git_url: fake:other\n")
	w.soa("other", "marathon-"+cluster+".yaml", "main:\n  cpus: 0.1\n  mem: 64\n  deploy_group: other.main\n")
	w.soa("other", "deploy.yaml", "pipeline:\n- step: other.main\n")
	w.marathon.Auto(true)
	w.options = func(o *deployd.Options) {
		o.Config.Deployd.GitPoll, o.Config.Deployd.GitPollHooked = 100*time.Millisecond, time.Hour
	}
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.tag(cluster+".main", paasta.TagDeploy, sha2)
	w.untilRunning(sha2, 3)

	reads := func(service string) int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.reads["fake:"+service]
	}
	readAgain := func(service string) {
		t.Helper()
		before := reads(service)
		w.until("polls of "+service, func() string {
			if n := reads(service) - before; n < 3 {
				return fmt.Sprintf("%d, want 3", n)
			}
			return ""
		})
	}
	must(t, w.conn.Create(w.ctx(), paasta.KickPath(cluster, "web"), []byte(paasta.KickFromHook)))
	w.until("the kick is seen", func() string {
		if _, _, err := w.conn.Get(w.ctx(), paasta.KickPath(cluster, "web")); err == nil {
			return "it is there"
		}
		return ""
	})
	readAgain("other") // by then web's read for the kick is over, and the one before it
	before := reads("web")
	readAgain("other")
	if n := reads("web") - before; n > 0 {
		t.Errorf("a repository with a hook was polled %d times", n)
	}
}
