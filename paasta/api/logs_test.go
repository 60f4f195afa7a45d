package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
)

// A fakeMarathon has tasks with output that a test writes.
type fakeMarathon struct {
	mu    sync.Mutex
	apps  []marathon.App
	ended []marathon.Ended
	out   map[string][]string
	wake  chan struct{} // closed and made anew at each change
	fails error
}

func newFakeMarathon(tasks ...string) *fakeMarathon {
	f := &fakeMarathon{out: map[string][]string{}, wake: make(chan struct{})}
	for _, t := range tasks {
		f.start(t)
	}
	return f
}

func (f *fakeMarathon) start(task string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apps = append(f.apps, marathon.App{ID: appID, Tasks: []marathon.Task{{ID: task, AppID: appID, State: "TASK_RUNNING"}}})
}

func (f *fakeMarathon) write(task, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out[task] = append(f.out[task], text)
	close(f.wake)
	f.wake = make(chan struct{})
}

func (f *fakeMarathon) Apps(context.Context) ([]marathon.App, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.apps), f.fails
}

func (f *fakeMarathon) AppsOf(ctx context.Context, id paasta.InstanceID) ([]marathon.App, error) {
	if id.Instance != "main" {
		return nil, f.fails
	}
	return f.Apps(ctx)
}

func (f *fakeMarathon) Queue(context.Context) ([]marathon.QueueItem, error) { return nil, f.fails }

func (f *fakeMarathon) Ended(_ context.Context, id paasta.InstanceID) ([]marathon.Ended, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id.Instance != "main" {
		return nil, f.fails
	}
	return slices.Clone(f.ended), f.fails
}

func (f *fakeMarathon) TaskLogs(ctx context.Context, task string, tail int, follow bool, each func(string, time.Time, string) error) error {
	for n := -1; ; {
		f.mu.Lock()
		lines, wake := slices.Clone(f.out[task]), f.wake
		ended := slices.ContainsFunc(f.ended, func(e marathon.Ended) bool { return e.ID == task })
		f.mu.Unlock()
		if n < 0 {
			n = max(0, len(lines)-tail)
		}
		for ; n < len(lines); n++ {
			if err := each("stdout", longAgo.Add(time.Duration(n+1)*time.Minute), lines[n]); err != nil {
				return err
			}
		}
		if !follow || ended {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func deployLine(minute int, instance, message string) paasta.LogLine {
	return paasta.LogLine{
		Time: longAgo.Add(time.Duration(minute)*time.Minute + time.Second), Component: "deploy", Level: "event",
		Cluster: cluster, Service: "web", Instance: instance, Message: message,
	}
}

func (w *world) deployLog(lines ...paasta.LogLine) {
	w.t.Helper()
	data, err := json.Marshal(lines)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(paasta.DeployLogPath(cluster, "web"), string(data))
}

func (w *world) read(q LogQuery) []string {
	w.t.Helper()
	q.Service = "web"
	var got []string
	if err := w.client().Logs(w.t.Context(), q, func(l paasta.LogLine) error {
		got = append(got, l.Message)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return got
}

func TestLogsAreMergedAndFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := newFakeMarathon("t1")
	w.server.Marathon = []Marathon{f}
	for n := range 5 {
		f.write("t1", fmt.Sprintf("out%d", n+1))
	}
	w.deployLog(deployLine(1, "main", "d1"), deployLine(2, "batch", "d2"), deployLine(3, "N/A", "d3"))
	for _, tc := range []struct {
		name string
		q    LogQuery
		want string
	}{
		{"everything, in order", LogQuery{}, "out1 d1 out2 d2 out3 d3 out4 out5"},
		{"the latest of each source", LogQuery{Lines: 1}, "d3 out5"},
		{"the latest that are asked for", LogQuery{Lines: 1, Instances: []string{"batch"}, Components: []string{"deploy"}}, "d3"},
		{"one instance and what is for all", LogQuery{Instances: []string{"batch"}}, "d2 d3"},
		{"output", LogQuery{Components: []string{"app_output"}}, "out1 out2 out3 out4 out5"},
		{"the deploy log", LogQuery{Components: []string{"deploy"}}, "d1 d2 d3"},
		{"a stretch of time", LogQuery{From: longAgo.Add(2 * time.Minute), To: longAgo.Add(3 * time.Minute)}, "out2 d2 out3"},
	} {
		if got := strings.Join(w.read(tc.q), " "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	f.mu.Lock()
	f.fails = errors.New("Marathon is away")
	f.mu.Unlock()
	w.put(paasta.DeployLogPath(cluster, "web"), "no JSON")
	got := strings.Join(w.read(LogQuery{}), "\n")
	if !strings.Contains(got, "Marathon is away") || !strings.Contains(got, "the deploy log was not read") {
		t.Errorf("what was not read is not said: %q", got)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := newFakeMarathon("t1")
	w.server.Marathon = []Marathon{f}
	f.write("t1", "old")
	w.deployLog(deployLine(1, "main", "d1"))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lines := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- w.client().Logs(ctx, LogQuery{Service: "web", Follow: true}, func(l paasta.LogLine) error {
			lines <- l.Message
			return nil
		})
	}()
	want := func(messages ...string) {
		t.Helper()
		for _, m := range messages {
			select {
			case got := <-lines:
				if got != m {
					t.Fatalf("got %q, want %q", got, m)
				}
			case <-ctx.Done():
				t.Fatalf("no %q within a minute", m)
			}
		}
	}
	want("old", "d1")
	f.write("t1", "new")
	want("new")
	w.deployLog(deployLine(1, "main", "d1"), deployLine(2, "main", "d2"), deployLine(2, "main", "d3"))
	want("d2", "d3")
	w.deployLog(deployLine(5, "main", "d5")) // the others fell out of the list
	want("d5")
	f.write("t2", "first words")
	f.start("t2")
	want("first words")
	cancel()
	if err := <-done; err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}

// TestFollowEndsAtTo: nobody waits for lines after the time that was asked for.
func TestFollowEndsAtTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.Marathon = []Marathon{newFakeMarathon("t1")}
	if got := w.read(LogQuery{Follow: true, To: time.Now().Add(200 * time.Millisecond)}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestLogParameters(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"lines=0":            "from 1 to 10000",
		"lines=x":            "from 1 to 10000",
		"lines=99999":        "from 1 to 10000",
		"follow=maybe":       "neither true nor false",
		"from=yesterday":     "no RFC 3339 time",
		"components=a,b":     `no component "b"`,
		"instances=x":        "known: main",
		"service=x":          "unknown parameter",
		"lines=5&components": "",
		"components=app_output,deploy&instances=main&from=2026-01-02T03:04:05Z&follow=1": "",
	} {
		r, _ := http.NewRequest(http.MethodGet, "/logs?"+query, nil)
		_, err := parseLogQuery(r, []string{"main"})
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}

// A task that crashes at once is never among those that run; what it said and
// how it ended is shown all the same.
func TestLogsOfATaskThatFailed(t *testing.T) {
	m := newFakeMarathon("running")
	m.write("running", "fine")
	m.write("crashed", "starts")
	m.write("crashed", "no database")
	m.apps[0].LastFailure = &marathon.Failure{Task: "crashed", Host: "h", State: "TASK_FAILED", Message: "exited with status 3", Time: longAgo.Add(3 * time.Minute)}
	w := newWorld(t)
	w.server.Marathon = []Marathon{m}
	want := []string{"no database", "TASK_FAILED on h: exited with status 3"}
	if got := w.read(LogQuery{From: longAgo.Add(2 * time.Minute)}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := w.read(LogQuery{Components: []string{"marathon"}}); !slices.Equal(got, want[1:]) {
		t.Errorf("marathon only: got %q, want %q", got, want[1:])
	}
}

// Tasks of an instance that have ended are one source: of a crash loop the latest
// lines are shown, each task's with how it ended.
func TestLogsOfACrashLoop(t *testing.T) {
	m := newFakeMarathon("running")
	m.write("running", "fine")
	now := time.Now()
	for n := range 50 {
		id := fmt.Sprintf("crash%d", n)
		m.write(id, "starts "+id)
		m.ended = append(m.ended, marathon.Ended{ID: id, Host: "h", State: "TASK_FAILED", Message: "status 3", Ended: longAgo.Add(time.Duration(n)*time.Second + time.Minute)})
	}
	w := newWorld(t)
	other := newFakeMarathon() // another framework of the same Mesos
	other.ended, other.out = m.ended, m.out
	w.server.Marathon = []Marathon{m, other}
	sorted := func(q LogQuery) []string {
		got := w.read(q)
		slices.Sort(got)
		return got
	}
	output := []string{"app_output", "marathon"}
	const failed = "TASK_FAILED on h: status 3"
	if got := sorted(LogQuery{Components: output}); !slices.Equal(got, []string{failed, "fine", "starts crash49"}) {
		t.Errorf("of long ago: %q", got)
	}
	for i := range m.ended {
		m.ended[i].Ended = now.Add(time.Duration(i-50) * time.Second)
	}
	if got := sorted(LogQuery{Lines: 4, Components: output}); !slices.Equal(got, []string{failed, failed, "fine", "starts crash48", "starts crash49"}) {
		t.Errorf("the latest: %q", got)
	}
	if got := w.read(LogQuery{From: now.Add(-3500 * time.Millisecond), Components: []string{"marathon"}}); len(got) != 3 {
		t.Errorf("of a stretch of time: %q", got)
	}
}

// A task that starts and crashes between two looks is followed all the same, and
// those that had ended before are not.
func TestFollowACrashLoop(t *testing.T) {
	t.Parallel()
	m := newFakeMarathon()
	w := newWorld(t)
	w.server.Marathon = []Marathon{m}
	crash := func(id string, ended time.Time) {
		for _, text := range []string{"starts", "reads its config", "has no database"} {
			m.write(id, text)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ended = append(m.ended, marathon.Ended{ID: id, Host: "h", State: "TASK_FAILED", Message: "status 3", Ended: ended})
	}
	crash("old", time.Now().Add(-48*time.Hour))
	crash("latest", time.Now().Add(-47*time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lines := make(chan paasta.LogLine, 100)
	go func() {
		_ = w.client().Logs(ctx, LogQuery{Service: "web", Follow: true, Lines: 2}, func(l paasta.LogLine) error { // until it is cancelled
			lines <- l
			return nil
		})
	}()
	for _, id := range []string{"latest", "new1", "new2"} {
		if id != "latest" {
			crash(id, time.Now())
		}
		all := []string{"starts", "reads its config", "has no database", "TASK_FAILED on h: status 3"}
		if id == "latest" {
			all = all[2:] // the two lines that were asked for
		}
		for _, want := range all {
			select {
			case l := <-lines:
				if l.Message != want || l.Task != id {
					t.Fatalf("got %q of %s, want %q of %s", l.Message, l.Task, want, id)
				}
			case <-ctx.Done():
				t.Fatalf("no %q within a minute", want)
			}
		}
	}
}
