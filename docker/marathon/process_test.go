package marathon_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func spawnWithoutDocker(t *testing.T) *child {
	t.Helper()
	agents := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(agents, []byte(`[{"hostname":"a","address":"127.0.0.1","attributes":{"rack":"r1"}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	return spawn(t, freeAddress(t), "--agents-config", agents, "--docker-host", "unix:///nonexistent")
}

// Processes outlive kill -9 of paasta marathon, and are adopted; one that ended
// meanwhile is reported with what it ended with.
func TestProcessesAreAdopted(t *testing.T) {
	t.Parallel()
	d := spawnWithoutDocker(t)
	d.post(`{"id":"/stays","cmd":"sleep 1000","cpus":0.1,"mem":16,"instances":2}`)
	d.post(`{"id":"/ends","cmd":"while [ ! -e $MESOS_SANDBOX/stop ]; do sleep 0.05; done; exit 7","cpus":0.1,"mem":16,"backoffSeconds":60}`)
	before := ids(d.running("/stays", 2))
	ends := d.running("/ends", 1)[0].ID
	d.kill()
	sandbox := filepath.Join(d.args[3], "processes", ends)
	if err := os.WriteFile(filepath.Join(sandbox, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.until(10*time.Second, "it has ended", func() bool {
		_, err := os.Stat(filepath.Join(sandbox, ".paasta-exit"))
		return err == nil
	})
	d.begin()
	if after := ids(d.running2tasks("/stays", 2)); after != before {
		t.Errorf("tasks %s became %s", before, after)
	}
	var app struct {
		App struct {
			LastTaskFailure struct{ TaskID, State, Message string }
		}
	}
	d.until(10*time.Second, "the end is reported", func() bool {
		d.get("/v2/apps/ends", &app)
		return app.App.LastTaskFailure.TaskID == ends
	})
	if f := app.App.LastTaskFailure; f.State != "TASK_FAILED" || f.Message != "Command exited with status 7" {
		t.Errorf("last failure %+v", f)
	}
}

func ids(tasks []task) string {
	var list []string
	for _, t := range tasks {
		list = append(list, t.ID)
	}
	return strings.Join(list, " ")
}

func (d *daemon) running2tasks(app string, n int) []task {
	d.t.Helper()
	d.running2(app, n)
	return d.tasks(app)
}

// A process gets SIGTERM, and SIGKILL once its grace period is over; whatever it
// has started goes with it.
func TestGracePeriod(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/deaf","cmd":"trap '' TERM; sleep 1003 & while true; do sleep 0.1; done","cpus":0.1,"mem":16,"taskKillGracePeriodSeconds":0.5}`)
	d.post(`{"id":"/polite","cmd":"trap 'echo bye; exit 0' TERM; while true; do sleep 0.05; done","cpus":0.1,"mem":16,"taskKillGracePeriodSeconds":30}`)
	deaf := d.running("/deaf", 1)[0]
	polite := d.running("/polite", 1)[0]
	begun := time.Now()
	d.call("PUT", "/v2/apps/deaf", `{"instances":0}`)
	d.running("/deaf", 0)
	if took := time.Since(begun); took < 400*time.Millisecond || took > 5*time.Second {
		t.Errorf("the deaf one was gone after %v, want half a second", took)
	}
	begun = time.Now()
	d.call("PUT", "/v2/apps/polite", `{"instances":0}`)
	d.running("/polite", 0)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the polite one was gone after %v", took)
	}
	if r := d.call("GET", "/paasta/tasks/"+polite.ID+"/logs?stream=stdout", ""); !strings.Contains(r.body, `"message":"bye"`) {
		t.Errorf("its last words: %d %s", r.status, r.body)
	}
	if text, err := os.ReadFile(filepath.Join(d.o.StateDir, "processes", deaf.ID, ".paasta-pid")); err != nil {
		t.Error(err)
	} else if pid := strings.Fields(string(text))[0]; pid == "" {
		t.Error("no pid")
	} else if err := syscall.Kill(-atoi(t, pid), 0); err == nil {
		d.until(5*time.Second, "its group is gone", func() bool { return syscall.Kill(-atoi(t, pid), 0) != nil })
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n := 0
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

func TestLogsOfProcesses(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/talks","cmd":"for i in 1 2 3; do echo out $i; echo err $i >&2; done; while [ ! -e more ]; do sleep 0.05; done; echo last; sleep 1000","cpus":0.1,"mem":16}`)
	id := d.running("/talks", 1)[0].ID
	d.until(5*time.Second, "it has spoken", func() bool {
		return strings.Contains(d.call("GET", "/paasta/tasks/"+id+"/logs", "").body, `"message":"err 3"`)
	})
	r := d.call("GET", "/paasta/tasks/"+id+"/logs?stream=stdout&lines=2", "")
	if got := strings.Count(r.body, "\n"); got != 2 || !strings.Contains(r.body, `"stream":"stdout","message":"out 3"}`) || strings.Contains(r.body, "err") {
		t.Errorf("the last two lines: %s", r.body)
	}
	resp, err := http.Get(d.url + "/paasta/tasks/" + id + "/logs?follow=true&lines=0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := os.WriteFile(filepath.Join(d.o.StateDir, "processes", id, "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	n, err := resp.Body.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), `"message":"last"`) {
		t.Errorf("followed %q, %v", buf[:n], err)
	}
	if r := d.call("GET", "/paasta/tasks/talks.unknown/logs", ""); r.status != 404 && r.status != 503 {
		t.Errorf("logs of nobody: %+v", r)
	}
}

// Health checks of a process: COMMAND runs where it is; one that fails gets it
// killed and replaced.
func TestHealthChecksOfProcesses(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(`{"id":"/checked","cmd":"touch well; sleep 1000","cpus":0.1,"mem":16,"healthChecks":[{"protocol":"COMMAND","command":{"value":"test -e well"},"gracePeriodSeconds":5,"intervalSeconds":1,"timeoutSeconds":1,"maxConsecutiveFailures":2}]}`)
	first := d.running("/checked", 1)[0]
	d.until(10*time.Second, "it is alive", func() bool { return d.alive("/checked") == 1 })
	if err := os.Remove(filepath.Join(d.o.StateDir, "processes", first.ID, "well")); err != nil {
		t.Fatal(err)
	}
	d.until(15*time.Second, "it is replaced", func() bool {
		list := d.tasks("/checked")
		return len(list) == 1 && list[0].ID != first.ID && list[0].State == "TASK_RUNNING"
	})
	var app struct {
		App struct {
			LastTaskFailure struct{ TaskID, State, Message string }
		}
	}
	d.get("/v2/apps/checked", &app)
	if f := app.App.LastTaskFailure; f.TaskID != first.ID || f.State != "TASK_KILLED" || !strings.HasPrefix(f.Message, "Task was killed since health check failed. Reason: ") {
		t.Errorf("last failure %+v", f)
	}
}

// What waits for its back-off is launched when that is over, however often
// others ask meanwhile.
func TestBackOffEndsWhileOthersAsk(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	stop, asking := make(chan struct{}), sync.WaitGroup{}
	defer asking.Wait()
	defer close(stop)
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					resp, err := http.Get(d.url + "/v2/tasks")
					if err != nil {
						return // the test ends, or says so itself
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	d.post(`{"id":"/fails","cmd":"echo x >> $RUNS; exit 1","cpus":0.1,"mem":16,"env":{"RUNS":"` + filepath.Join(d.o.StateDir, "runs") + `"},"backoffSeconds":0.1,"backoffFactor":1,"maxLaunchDelaySeconds":1}`)
	d.until(30*time.Second, "it has been started 20 times", func() bool {
		text, err := os.ReadFile(filepath.Join(d.o.StateDir, "runs"))
		return err == nil && len(text) >= 2*20
	})
}
