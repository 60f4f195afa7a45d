package deployd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/deployd"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

// Two deployds: one leads, and when it goes the other does its work.
func TestFailover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	stop := w.start()
	first := w.base
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.start()
	w.until("the second waits", func() string {
		if text := w.get("/v1/instances"); !strings.HasPrefix(text, "503") {
			return text
		}
		return ""
	})
	if w.base == first {
		t.Fatal("both have one address")
	}
	stop()
	w.deploy(sha2)
	w.untilRunning(sha2, 3)
	w.untilState("steady")
}

// What fails again and again is said when it begins, not each time.
func TestFailuresAreSaidOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	var log lockedBuffer
	w.options = func(o *deployd.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	failed := func(name string, times int) {
		t.Helper()
		w.until(name+" fails again and again", func() string {
			response, err := http.Get(w.base + "/metrics")
			if err != nil {
				return err.Error()
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if err != nil {
				return err.Error()
			}
			var n int
			_, rest, _ := strings.Cut(string(text), "paasta_deployd_"+name+`_seconds_count{outcome="failed"} `)
			if _, err := fmt.Sscan(rest, &n); err != nil || n < times {
				return fmt.Sprintf("%d times, %v", n, err)
			}
			return ""
		})
	}
	w.git(errors.New("no route to the git server"))
	w.kick("web")
	failed("tag_read", 3)
	w.git(nil)
	w.kick("web")
	w.until("read tags again", func() string {
		if !strings.Contains(log.String(), "tags can be read again") {
			return "not said"
		}
		return ""
	})
	w.marathon.Down(true)
	w.kick("web")
	failed("round", 4)
	for _, message := range []string{"read tags failed", "round failed"} {
		if n := strings.Count(log.String(), message); n != 1 {
			t.Errorf("%q was said %d times, want once:\n%s", message, n, log.String())
		}
	}
}

// ZooKeeper goes and comes back in the middle of a bounce.
func TestZooKeeperRestarts(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	w := newWorldAt(t, server.Addr())
	w.agent("host1", hosts...)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 3)
	w.untilState("steady")
	w.marathon.Auto(false)
	w.deploy(sha2)
	w.until("new app", func() string {
		if len(w.marathon.Apps()) != 2 {
			return "not created"
		}
		return ""
	})
	server.Stop()
	w.until("/healthz says that ZooKeeper is away", func() string {
		if text := w.get("/healthz"); !strings.HasPrefix(text, "503") || !strings.Contains(text, `"connected":false`) {
			return text
		}
		return ""
	})
	for _, task := range w.marathon.Tasks(w.marathon.Posted()[1]) {
		w.marathon.Run(task.ID)
		w.marathon.Healthy(task.ID, true)
	}
	server.Restart()
	w.untilRunning(sha2, 3)
	w.untilState("steady")
	if wrong := w.healthy(); wrong != "" {
		t.Error(wrong)
	}
}

// A service whose repository does not answer, one with a broken file, and one
// whose drain method hangs delay nobody else.
func TestABrokenServiceDelaysNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options = func(o *deployd.Options) { o.Config.Deployd.Workers = 1 }
	w.marathon.Auto(true)
	for n := range 3 {
		name := fmt.Sprintf("slow%d", n)
		w.gitSlow["fake:"+name] = time.Minute
		w.soa(name, "service.yaml", "git_url: fake:"+name+"\n")
		w.soa(name, "deploy.yaml", "pipeline:\n- step: "+cluster+".main\n")
		w.soa(name, "marathon-"+cluster+".yaml", "main:\n  cpus: 0.1\n")
	}
	w.soa("broken", "marathon-"+cluster+".yaml", "main: [\n")
	hang := make(chan struct{})
	hanging := make(chan struct{}, 100)
	server := http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hanging <- struct{}{}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})}
	l := listen(t)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	url := "url_format: http://" + l.Addr().String() + "/"
	w.soa("hangs", "service.yaml", "git_url: fake:hangs\n")
	w.soa("hangs", "deploy.yaml", "pipeline:\n- step: "+cluster+".main\n")
	w.soa("hangs", "marathon-"+cluster+".yaml", "main:\n  cpus: 0.1\n  instances: 1\n  drain_method: http\n  drain_method_params:\n"+
		"    drain: {"+url+"}\n    stop_draining: {"+url+"}\n    is_draining: {"+url+"}\n    is_safe_to_kill: {"+url+"}\n")
	w.start()
	w.deploy(sha1)
	w.untilRunningOf("hangs", sha1)
	w.tag(cluster+".main", paasta.TagDeploy, sha2)
	w.kick("hangs")
	select {
	case <-hanging:
	case <-time.After(20 * time.Second):
		t.Fatal("its drain method was not asked\n" + w.dump())
	}
	began := time.Now()
	w.kick("web")
	w.untilRunningOf("web", sha2)
	took := time.Since(began)
	t.Logf("beside them a deploy took %s", took)
	if took > 5*time.Second {
		t.Errorf("a deploy beside broken services took %s", took)
	}
	close(hang)
}

// That another team wants one's proxy_port is the port's trouble, not the next
// deploy's.
func TestAClashOfPortsStopsNoDeploy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.instance("instances: 1\n")
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 1)
	w.soa("thief", "smartstack.yaml", "main:\n  proxy_port: 20001\n")
	w.soa("after", "service.yaml", "git_url: fake:after\n")
	w.soa("after", "deploy.yaml", "pipeline:\n- step: "+cluster+".main\n")
	w.soa("after", "marathon-"+cluster+".yaml", "main:\n  cpus: 0.1\n  instances: 1\n")
	w.until("the clash is read", func() string {
		if s := w.status("after", "main"); s.State == "" {
			return "not yet"
		}
		return ""
	})
	w.deploy(sha2)
	w.untilRunningOf("web", sha2)
	w.until("an entry in the registry", func() string {
		if n := len(w.entries()); n != 1 {
			return fmt.Sprint(n, " entries")
		}
		return ""
	})
}

func (w *world) untilRunningOf(service, sha string) {
	w.t.Helper()
	w.until(service, func() string {
		apps := slices.DeleteFunc(w.marathon.Apps(), func(id string) bool { return !strings.HasPrefix(id, service+".") })
		if len(apps) == 0 || !slices.ContainsFunc(apps, func(id string) bool { return strings.Contains(id, "git"+sha[:8]) }) {
			return fmt.Sprint(apps, w.status(service, "main"))
		}
		return ""
	})
}

// Apps whose id is not ours, and those of another cluster, are never touched,
// nor are entries of others.
func TestForeignAppsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	foreign := []string{
		"somebody/else", "web", "web.main.git11111111", "web.main.git99999999.config99999999", "gone.main.git11111111.config11111111",
	}
	for _, id := range foreign {
		labels := map[string]string{"paasta_cluster": "another"}
		if id == "gone.main.git11111111.config11111111" {
			labels = nil // of an instance that nobody here has heard of
		}
		body, err := json.Marshal(map[string]any{"id": id, "cmd": "sleep 300", "instances": 1, "labels": labels})
		must(t, err)
		response, err := http.Post(w.marathon.URL+"/v2/apps", "application/json", bytes.NewReader(body))
		must(t, err)
		response.Body.Close()
	}
	others := []registry.Entry{
		{Host: "10.0.0.1", Port: 1, Name: "nerve", Weight: 10},
		{Host: "10.0.0.2", Port: 2, Name: "other", Weight: 10, Labels: map[string]string{
			registry.LabelCluster: "another", registry.LabelTaskID: "web.main.git99999999.config99999999.1",
		}},
	}
	must(t, w.registry.Apply(w.ctx(), web, others, nil))
	w.start()
	w.deploy(sha1)
	w.until("ours", func() string {
		if n := len(w.entries()); n != 5 {
			return fmt.Sprintf("%d entries", n)
		}
		return ""
	})
	w.deploy(sha2)
	w.until("ours again", func() string {
		apps := w.marathon.Apps()
		if len(apps) != len(foreign)+1 || !slices.ContainsFunc(apps, func(id string) bool { return strings.Contains(id, "git22222222") }) {
			return fmt.Sprint(apps)
		}
		return ""
	})
	for _, id := range foreign {
		if w.marathon.Size(id) != 1 {
			t.Errorf("%s has size %d", id, w.marathon.Size(id))
		}
	}
	if n := len(w.entries()); n != 5 {
		t.Errorf("%d entries, want ours and the two of others", n)
	}
}

// A system-wide change makes apps stale and replaces them one by one.
func TestStaleAppsAreRefreshedInTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.soa("web", "deploy.yaml", "pipeline:\n- step: "+cluster+".main\n- step: "+cluster+".b\n- step: "+cluster+".c\n")
	w.soa("web", "marathon-"+cluster+".yaml", "main: &m\n  cpus: 0.1\n  mem: 64\n  deploy_group: "+cluster+".main\nb:\n  <<: *m\nc:\n  <<: *m\n")
	w.marathon.Auto(true)
	stop := w.start()
	w.deploy(sha1)
	w.until("three apps", func() string {
		if n := len(w.marathon.Posted()); n != 3 {
			return fmt.Sprint(w.marathon.Posted())
		}
		return ""
	})
	for _, name := range []string{"main", "b", "c"} {
		w.until(name, func() string { return map[bool]string{false: "not steady"}[w.status("web", name).State == "steady"] })
	}
	stop()
	w.config.DockerRegistry = "elsewhere:5000"
	w.options = func(o *deployd.Options) { o.Config.Deployd.BigBounceRate = 120 } // one each half second
	began := time.Now()
	w.start()
	w.until("stale", func() string {
		stale := 0
		for _, name := range []string{"main", "b", "c"} {
			if w.status("web", name).Stale {
				stale++
			}
		}
		return map[bool]string{false: "nothing is stale"}[stale > 0]
	})
	w.until("refreshed", func() string {
		for _, id := range w.marathon.Apps() {
			image := w.marathon.Definition(id)["container"].(map[string]any)["docker"].(map[string]any)["image"].(string)
			if !strings.HasPrefix(image, "elsewhere:5000/") {
				return id + " runs " + image
			}
		}
		if n := len(w.marathon.Apps()); n != 3 {
			return fmt.Sprintf("%d apps", n)
		}
		return ""
	})
	if took := time.Since(began); took < time.Second {
		t.Errorf("all three were replaced within %s, want half a second for each", took)
	}
}

// An agent that goes without having applied a drain is waited for: its HAProxy
// goes on routing.
func TestAnAgentThatGoesIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.instance("instances: 1\n")
	w.agent("host1", hosts...)
	gone := w.agent("host2")
	w.marathon.Auto(true)
	w.options = func(o *deployd.Options) { o.Config.Deployd.DrainTimeout = 3 * time.Second }
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 1)
	w.untilState("steady")
	old := w.marathon.Tasks("")[0]
	gone.change(func() { gone.frozen = true })
	gone.conn.Close()
	began := time.Now()
	w.deploy(sha2)
	w.untilRunning(sha2, 1)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("the old task %s went after %s, although host2 still routes to it", old.ID, took)
	}
}

// A new app of Marathon that is locked by a deployment is changed all the same.
func TestLockedAppsAreChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	app := w.untilRunning(sha1, 3)
	w.marathon.Lock(app, true)
	w.instance("instances: 4\n")
	w.untilRunning(sha1, 4)
	w.deploy(sha2)
	w.untilRunning(sha2, 4)
}

// With "deployments: file", deployments.json in soa-configs says what runs.
func TestDeploymentsFromFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Deployd.Deployments = "file"
	w.marathon.Auto(true)
	w.git(errors.New("nobody asks git"))
	w.start()
	w.until("says what is missing", func() string {
		if s := w.status("web", "main"); !strings.Contains(s.Why, "paasta generate-deployments") {
			return s.Why
		}
		return ""
	})
	for _, sha := range []string{sha1, sha2} {
		file := deployments.File{V2: deployments.V2{Deployments: map[string]deployments.Deployment{
			cluster + ".main": {DockerImage: paasta.ImageName("web", sha), GitSHA: sha},
		}}}
		w.soa("web", "deployments.json", string(deployments.Encode(file)))
		w.kick("web")
		w.untilRunning(sha, 3)
	}
}

// Every method ends with the new version alone; downthenup never has both.
func TestMethods(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"brutal", "upthendown", "downthenup"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.instance("instances: 2\nbounce_method: " + method + "\n")
			w.agent("host1", hosts...)
			w.marathon.Auto(true)
			w.marathon.KillDelay(30 * time.Millisecond)
			w.start()
			w.deploy(sha1)
			w.untilRunning(sha1, 2)
			w.untilState("steady")
			w.deploy(sha2)
			both := false
			w.until("bounce", func() string {
				versions := map[string]bool{}
				for _, task := range w.marathon.Tasks("") {
					versions[task.App] = true
				}
				both = both || len(versions) > 1
				if apps := w.marathon.Apps(); len(apps) != 1 || !strings.Contains(apps[0], "git22222222") {
					return fmt.Sprint(apps)
				}
				return ""
			})
			w.untilRunning(sha2, 2)
			w.untilState("steady")
			if both && method == "downthenup" {
				t.Error("both versions ran at a time")
			}
		})
	}
}

// A web page whose name was made to resolve to a master reads nothing.
func TestPagesAreForThoseWhoMeanThisHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for _, page := range []string{"/healthz", "/metrics", "/v1/instances", "/v1/instances/web/main", "/"} {
		for host, want := range map[string]bool{"master1:5055": true, "127.0.0.1:5055": true, "evil.example:5055": false, "master1.evil.example": false} {
			r, err := http.NewRequest(http.MethodGet, w.base+page, nil)
			must(t, err)
			r.Host = host
			resp, err := http.DefaultClient.Do(r)
			must(t, err)
			resp.Body.Close()
			if (resp.StatusCode != http.StatusForbidden) != want {
				t.Errorf("GET %s meant for %s: %s", page, host, resp.Status)
			}
		}
	}
}

// ZooKeeper loses its data, or has only older ones: what runs is registered
// again, and deploys go on, without a restart of anybody.
func TestZooKeeperLosesItsData(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*zktest.Server) (lose func()){
		"wiped":                         func(s *zktest.Server) func() { return s.Wipe },
		"restored from an older backup": (*zktest.Server).Backup,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := zktest.Start(t)
			w := newWorldAt(t, server.Addr())
			w.agent("host1", hosts...)
			w.marathon.Auto(true)
			w.start()
			w.deploy(sha1)
			w.untilRunning(sha1, 3)
			lose := prepare(server)
			w.until("a session again", w.healthy)
			w.deploy(sha2)
			w.untilRunning(sha2, 3)
			w.untilState("steady")
			w.slowGit(500 * time.Millisecond) // what is in ZooKeeper is known before the tags are
			lose()
			w.until("a session again", w.healthy)
			w.untilRunning(sha2, 3)
			for _, step := range w.untilState("steady").Steps {
				if step.Op == "create" {
					t.Errorf("an older ZooKeeper made deployd create %s", step.Target)
				}
			}
			w.slowGit(0)
			w.deploy(sha3)
			w.untilRunning(sha3, 3)
		})
	}
}

// healthy says what is wrong with deployd and the test's own connection.
func (w *world) healthy() string {
	text := w.get("/healthz")
	switch {
	case !strings.HasPrefix(text, "200"):
		return text
	case !w.conn.Connected():
		return "the test has no session"
	}
	return ""
}

// An instance whose deploy group is no step of deploy.yaml, or that has no
// deploy.yaml, is deployed when its group is marked: validate says what is wrong.
func TestGroupsThatAreNoStep(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"no deploy.yaml": func(w *world) { w.soa("web", "deploy.yaml", "") },
		"no step of it":  func(w *world) { w.soa("web", "deploy.yaml", "pipeline:\n- step: prod.other\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.instance("instances: 3\ndeploy_group: " + cluster + ".main\n")
			change(w)
			w.marathon.Auto(true)
			w.start()
			w.deploy(sha1)
			w.untilRunning(sha1, 3)
			w.deploy(sha2)
			w.untilRunning(sha2, 3)
			w.untilState("steady")
		})
	}
}
