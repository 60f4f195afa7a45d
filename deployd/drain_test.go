package deployd_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A drainable is a service whose tasks are drained over HTTP.
type drainable struct {
	http *httptest.Server

	mu       sync.Mutex
	draining map[string]bool // by port
	broken   map[string]bool // ports that refuse drain and stop_draining
	told     func(name, port string)
}

// drainable makes web's instance one that is drained over HTTP.
func (w *world) drainable(keys string) *drainable {
	d := &drainable{draining: map[string]bool{}, broken: map[string]bool{}, told: func(string, string) {}}
	d.http = httptest.NewServer(d)
	w.t.Cleanup(d.http.Close)
	params := ""
	for _, name := range []string{"drain", "stop_draining", "is_draining", "is_safe_to_kill"} {
		params += fmt.Sprintf("  %s: {url_format: '%s/%s?port={port}'}\n", name, d.http.URL, name)
	}
	w.instance(keys + "drain_method: http\ndrain_method_params:\n" + params)
	return d
}

func (d *drainable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, port := strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query().Get("port")
	ok := true
	switch name {
	case "drain", "stop_draining":
		d.told(name, port)
		if ok = !d.broken[port]; ok {
			d.draining[port] = name == "drain"
		}
	case "is_draining", "is_safe_to_kill":
		ok = d.draining[port]
	}
	if !ok {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (d *drainable) breaks(port int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken[fmt.Sprint(port)] = true
}

// A task that cannot be told to drain, and that takes no traffic anyway, holds
// up nobody but itself, and that only for as long as a drain may last.
func TestATaskThatCannotDrainHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("its service is silent %v", silent), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.marathon.Auto(true)
			w.config.Deployd.DrainTimeout = 2 * time.Second
			service := w.drainable("instances: 3\n")
			w.start()
			w.deploy(sha1)
			app := w.untilRunning(sha1, 3)
			sick := w.marathon.Tasks(app)[0]
			service.breaks(sick.Port)
			w.marathon.Healthy(sick.ID, false)
			w.until("it leaves the registry", func() string {
				if n := len(w.entries()); n != 2 {
					return fmt.Sprint(n, " entries")
				}
				return ""
			})
			if silent {
				service.http.Close()
			}
			w.deploy(sha2)
			if !silent {
				w.until("the others go first", func() string {
					tasks := w.marathon.Tasks(app)
					if len(tasks) == 1 && tasks[0].ID == sick.ID {
						return ""
					}
					return fmt.Sprint(tasks)
				})
			}
			w.untilRunning(sha2, 3)
			said := 0
			for _, step := range w.status("web", "main").Steps {
				if step.Op == "drain" && step.Target == sick.ID {
					said++
				}
			}
			if said != 1 {
				t.Errorf("the deploy log says %d times that %s drains", said, sick.ID)
			}
		})
	}
}

// A bounce whose new tasks never become healthy says what their check answers.
func TestWhyABounceWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.instance("instances: 1\nhealthcheck_mode: http\n")
	w.deploy(sha1)
	w.until("a task", func() string {
		if len(w.marathon.Tasks("")) != 1 {
			return "none"
		}
		return ""
	})
	task := w.marathon.Tasks("")[0]
	w.marathon.Run(task.ID)
	w.marathon.Healthy(task.ID, false)
	want := "0 of 1 tasks are happy; " + task.ID[strings.LastIndexByte(task.ID, '.')+1:] + " on " + task.Host + ": 0 of 1 health checks pass: Got 503 Service Unavailable"
	w.until("the reason", func() string {
		if s := w.status("web", "main"); s.State != "waiting" || s.Why != want {
			return fmt.Sprintf("%s: %q, want %q", s.State, s.Why, want)
		}
		return ""
	})
}

// Back in the middle of a bounce: the tasks that drained take traffic again
// before the others stop, as the load balancers see it; and no task gets
// traffic while it believes that it drains.
func TestRollbackInMidBounce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.marathon.Auto(true)
	service := w.drainable("instances: 2\n")
	service.told = func(name, port string) {
		for _, e := range w.entries() {
			if fmt.Sprint(e.Port) == port && e.Weight != 0 {
				t.Errorf("%s is asked of port %s while it takes traffic", name, port)
			}
		}
	}
	a := w.agent("host1", hosts...)
	w.start()
	w.deploy(sha1)
	app := w.untilRunning(sha1, 2)
	w.untilState("steady")
	a.change(func() {
		for _, task := range w.marathon.Tasks(app) {
			a.connections[task.Port] = 1 // so that they drain for long
		}
	})
	weights := func(sha string) string {
		var all []int
		for _, e := range w.entries() {
			if e.Labels[registry.LabelGitSHA] == sha {
				all = append(all, e.Weight)
			}
		}
		return fmt.Sprint(all)
	}
	w.deploy(sha2)
	w.until("the old tasks drain", func() string {
		if now := weights(sha1); now != "[0 0]" {
			return "weights " + now
		}
		return ""
	})
	a.change(func() { a.frozen = true })
	w.deploy(sha1)
	w.until("the way back waits for the load balancers", func() string {
		if s := w.status("web", "main"); s.App != app || !strings.Contains(s.Why, "0 of 2 new tasks are happy, so 2 old tasks stay") {
			return s.App + ": " + s.Why
		}
		return ""
	})
	if back, left := weights(sha1), weights(sha2); back != "[10 10]" || left != "[10 10]" {
		t.Errorf("weights of what comes back %s, of what leaves %s; want all 10", back, left)
	}
	a.change(func() { a.frozen = false })
	w.untilRunning(sha1, 2)
}
