package api

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// Whatever is wrong with the files of a service: every page is answered, and
// another service's says what it said before.
func TestBadTreesHarmNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, dir := t.TempDir(), filepath.Join(t.TempDir(), "soa")
	for service, port := range map[string]int{"web": 20001, "fine": 20002} {
		for file, text := range map[string]string{
			"smartstack.yaml":               fmt.Sprintf("main: {proxy_port: %d}\n", port),
			"marathon-" + cluster + ".yaml": "main: {instances: 3, deploy_group: prod.main}\n",
			"service.yaml":                  "git_url: git@host:" + service + "\n",
			"deploy.yaml":                   "pipeline:\n- step: prod.main\n",
			"monitoring.yaml":               "team: a\n",
		} {
			path := filepath.Join(good, service, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	asked := 0
	ask := func(what, path string, want ...int) string {
		t.Helper()
		asked++
		rec := httptest.NewRecorder() // a handler that panics ends the test
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "127.0.0.1"
		w.server.handler().ServeHTTP(rec, r)
		if slices.Contains(want, rec.Code) {
			return rec.Body.String()
		}
		t.Errorf("%s: GET %s: %d, want %v: %s", what, path, rec.Code, want, rec.Body)
		return ""
	}
	look := func(what string) {
		t.Helper()
		tree, err := soaconfig.Load(t.Context(), dir, soaconfig.Options{Clusters: []string{cluster}})
		if err != nil {
			t.Fatal(err)
		}
		w.server.changed(tree, nil)
		ask(what, "/v1/services", 200)
		ask(what, "/", 200)
		ask(what, "/v1/services/fine/main/status", 200)
		for _, path := range []string{"/v1/services/web/status", "/v1/services/web/main/status", "/v1/services/web/deployments"} {
			ask(what, path, 200, 404, 422)
		}
	}
	paastatest.CopyTree(t, dir, good)
	look("good")
	for _, file := range paastatest.ServiceFiles(cluster)[:4] {
		for _, bad := range paastatest.BadTrees("web", file, 20001) {
			if err := bad.Break(dir); err != nil {
				if os.IsNotExist(err) {
					continue
				}
				t.Fatal(err)
			}
			look(file + ": " + bad.Name)
			paastatest.CopyTree(t, dir, good)
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	for n := range 60 {
		paastatest.Mutate(t, random, dir, "web", cluster)
		look(fmt.Sprintf("mutation %d", n))
		if random.IntN(3) == 0 {
			paastatest.CopyTree(t, dir, good)
		}
	}
	t.Logf("%d requests", asked)
}
