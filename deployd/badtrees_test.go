package deployd_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// Whatever is wrong with the files of a service: deployd lives, others are
// deployed, and what is broken is not taken for gone.
func TestBadTreesHarmNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.soa("fine", "service.yaml", "git_url: fake:fine\n")
	w.soa("fine", "smartstack.yaml", "main: {proxy_port: 20002}\n")
	w.soa("fine", "deploy.yaml", "pipeline:\n- step: "+cluster+".fine\n")
	marks := 0
	// followed waits until deployd has followed what soa-configs say now: an
	// instance that comes last is known.
	followed := func() {
		t.Helper()
		marks++
		name := fmt.Sprintf("mark%d", marks)
		w.soa("fine", "marathon-"+cluster+".yaml", "main: {cpus: 0.1, mem: 64, instances: 1, deploy_group: "+cluster+".fine}\n"+name+": {instances: 0, deploy_group: "+cluster+".fine}\n")
		w.until("follow soa-configs", func() string {
			if text := w.get("/v1/instances"); !strings.Contains(text, `"`+name+`"`) {
				return text
			}
			return ""
		})
	}
	w.start()
	w.tag(cluster+".fine", paasta.TagDeploy, sha3)
	w.deploy(sha1)
	followed()
	w.kick("fine")
	app := func(prefix string) string {
		i := slices.IndexFunc(w.marathon.Apps(), func(id string) bool { return strings.HasPrefix(strings.TrimPrefix(id, "/"), prefix) })
		if i < 0 {
			return ""
		}
		return w.marathon.Apps()[i]
	}
	w.until("run both", func() string {
		if app("web.main.git11111111") == "" || app("fine.main.git33333333") == "" {
			return fmt.Sprint(w.marathon.Apps())
		}
		return ""
	})
	apps := map[string]string{"web": app("web.main"), "fine": app("fine.main")}
	good := filepath.Join(t.TempDir(), "web")
	web := filepath.Join(w.config.SoaDir, "web")
	paastatest.CopyTree(t, good, web)
	for _, file := range []string{"marathon-" + cluster + ".yaml", "smartstack.yaml"} {
		for _, bad := range paastatest.BadTrees("web", file, 20001) {
			must(t, bad.Break(w.config.SoaDir))
			followed()
			if app("fine.main") != apps["fine"] {
				t.Fatalf("%s: %s: fine's apps are %v, want %s", file, bad.Name, w.marathon.Apps(), apps["fine"])
			}
			// What is read and clear is done: an entry that is only wrong runs as far as
			// it is understood, and one that is not there goes.
			svc, err := soaconfig.LoadService(w.config.SoaDir, "web", soaconfig.Options{Clusters: []string{cluster}})
			clear := errors.Is(err, fs.ErrNotExist)
			if err == nil {
				e := svc.Instances[cluster]
				clear = len(e.Unreadable) == 0 && len(e.Invalid["main"]) == 0
			}
			if !clear && !slices.Contains(w.marathon.Apps(), apps["web"]) {
				t.Fatalf("%s: %s: web's app is gone: %v", file, bad.Name, w.marathon.Apps())
			}
			paastatest.CopyTree(t, web, good)
			if clear {
				followed()
				w.until("run web as it was", func() string {
					of := slices.DeleteFunc(w.marathon.Apps(), func(id string) bool { return !strings.HasPrefix(strings.TrimPrefix(id, "/"), "web.") })
					if !slices.Equal(of, []string{apps["web"]}) {
						return fmt.Sprint(of)
					}
					return ""
				})
			}
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		paastatest.Mutate(t, random, w.config.SoaDir, "web", cluster)
		followed()
		if random.IntN(3) == 0 {
			paastatest.CopyTree(t, web, good)
		}
	}
	paastatest.CopyTree(t, web, good)
	w.tag(cluster+".fine", paasta.TagDeploy, sha2)
	w.kick("fine")
	w.until("deploy fine", func() string {
		if app("fine.main.git22222222") == "" {
			return fmt.Sprint(w.marathon.Apps())
		}
		return ""
	})
}
