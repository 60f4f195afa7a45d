package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/zk"
)

// Components that logs can be asked for. The output of tasks is stdout and
// stderr; all others come from the deploy log. componentAPI carries what the
// API itself has to say, such as that a source did not answer; it is always
// sent.
var components = []string{"build", "deploy", "monitoring", "marathon", "stdout", "stderr", "security", "oom"}

const componentAPI = "api"

const (
	defaultLines = 100
	maxLines     = 10_000
	// logsWithin bounds how long sources may take that are not followed.
	logsWithin = 10 * time.Second
	// tasksEvery is how often a follow looks for new tasks.
	tasksEvery = 2 * time.Second
	// aliveEvery is how often an idle follow sends an empty line, so that what
	// lies between does not close it.
	aliveEvery = 15 * time.Second
	// readWithin is how long a reader may leave a line unread.
	readWithin = 30 * time.Second
)

// A logQuery is a checked LogQuery.
type logQuery struct {
	instances  []string // sorted, never empty
	all        bool     // no instance was named: lines of all instances, too
	components []string
	lines      int
	follow     bool
	from, to   time.Time
}

func (s *server) logs(w http.ResponseWriter, r *http.Request) error {
	_, svc, err := s.service(r)
	if err != nil {
		return err
	}
	q, err := parseLogQuery(r, s.instances(svc))
	if err != nil {
		return err
	}
	began := s.now()
	out := &logWriter{w: w, control: http.NewResponseController(w)}
	// The server's limit for reading a request would end a follow.
	if err := out.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")

	ctx, cancel := context.WithTimeout(r.Context(), logsWithin)
	lines := s.tail(ctx, svc.Name, q)
	cancel()
	for _, l := range lines {
		if err := out.write(l); err != nil {
			return nil // the reader has gone
		}
	}
	if err := out.flush(); err != nil || !q.follow {
		return nil
	}
	s.follow(r.Context(), svc.Name, q, began, lines, out)
	return nil
}

// parseLogQuery checks the parameters. All that is wrong is in the error.
func parseLogQuery(r *http.Request, instances []string) (logQuery, error) {
	v := r.URL.Query()
	var wrong []string
	list := func(name string) []string {
		var items []string
		for _, text := range v[name] {
			for item := range strings.SplitSeq(text, ",") {
				if item = strings.TrimSpace(item); item != "" {
					items = append(items, item)
				}
			}
		}
		return items
	}
	q := logQuery{instances: list("instances"), components: list("components"), lines: defaultLines}
	for _, name := range q.instances {
		if !slices.Contains(instances, name) {
			wrong = append(wrong, fmt.Sprintf("no instance %q here (known: %s)", name, cmp.Or(strings.Join(instances, ", "), "none")))
		}
	}
	if len(q.instances) == 0 {
		q.instances, q.all = instances, true
	}
	if i := slices.Index(q.components, "app_output"); i >= 0 {
		q.components = slices.Replace(q.components, i, i+1, "stdout", "stderr")
	}
	for _, c := range q.components {
		if !slices.Contains(components, c) {
			wrong = append(wrong, fmt.Sprintf("no component %q (known: %s, app_output)", c, strings.Join(components, ", ")))
		}
	}
	if len(q.components) == 0 {
		q.components = components
	}
	var err error
	if text := v.Get("lines"); text != "" {
		if q.lines, err = strconv.Atoi(text); err != nil || q.lines < 1 || q.lines > maxLines {
			wrong = append(wrong, fmt.Sprintf("lines: %q is no number from 1 to %d", text, maxLines))
		}
	}
	if text := v.Get("follow"); text != "" {
		if q.follow, err = strconv.ParseBool(text); err != nil {
			wrong = append(wrong, fmt.Sprintf("follow: %q is neither true nor false", text))
		}
	}
	at := func(name string) (t time.Time) {
		text := v.Get(name)
		if text == "" {
			return t
		}
		if t, err = time.Parse(time.RFC3339, text); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %q is no RFC 3339 time", name, text))
		}
		return t
	}
	q.from, q.to = at("from"), at("to")
	for name := range v {
		if !slices.Contains([]string{"instances", "components", "lines", "follow", "from", "to"}, name) {
			wrong = append(wrong, fmt.Sprintf("unknown parameter %q", name))
		}
	}
	if len(wrong) > 0 {
		return q, failf(http.StatusBadRequest, "", "%s", strings.Join(wrong, "; "))
	}
	return q, nil
}

// wants tells whether a line is asked for.
func (q logQuery) wants(l paasta.LogLine) bool {
	if l.Component == componentAPI {
		return true
	}
	if !q.all && l.Instance != "N/A" && !slices.Contains(q.instances, l.Instance) {
		return false
	}
	return slices.Contains(q.components, l.Component) &&
		!l.Time.Before(q.from) && (q.to.IsZero() || !l.Time.After(q.to))
}

func (q logQuery) wantsOutput() bool {
	return slices.Contains(q.components, "stdout") || slices.Contains(q.components, "stderr")
}

func (q logQuery) wantsDeployLog() bool {
	return slices.ContainsFunc(q.components, func(c string) bool { return c != "stdout" && c != "stderr" })
}

// tail reads the latest lines of every source, ordered by time.
func (s *server) tail(ctx context.Context, service string, q logQuery) []paasta.LogLine {
	var lines []paasta.LogLine
	var mu sync.Mutex
	add := func(source []paasta.LogLine) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, source[max(0, len(source)-q.lines):]...)
	}
	var wg sync.WaitGroup
	if q.wantsDeployLog() {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, zookeeperWithin)
			defer cancel()
			data, _, err := s.ZK.Get(ctx, paasta.DeployLogPath(s.Cluster, service))
			source, err := deployLog(data, err)
			if err != nil {
				source = append(source, s.line(service, "the deploy log was not read: "+err.Error()))
			}
			add(slices.DeleteFunc(source, func(l paasta.LogLine) bool { return !q.wants(l) }))
		})
	}
	if q.wantsOutput() || slices.Contains(q.components, "marathon") {
		wg.Go(func() {
			tasks, err := s.tasks(ctx, service, q.instances)
			if err != nil {
				add([]paasta.LogLine{s.line(service, "the tasks were not found, or not all of them: "+err.Error())})
			}
			var silent sync.Once // says that no task's output is handed out
			read := func(t logTask) (source []paasta.LogLine) {
				if q.wantsOutput() {
					err := s.output(ctx, service, t, q, false, func(l paasta.LogLine) error {
						source = append(source, l)
						return nil
					})
					switch {
					case errors.Is(err, marathon.ErrNotFound):
						// it has gone meanwhile
					case errors.Is(err, marathon.ErrNoOutput):
						silent.Do(func() { source = append(source, s.line(service, err.Error())) })
					case err != nil:
						source = append(source, s.line(service, fmt.Sprintf("the output of task %s was not read: %v", t.ID, err)))
					}
				}
				if l := s.ending(service, t); l != nil && q.wants(*l) {
					source = append(source, *l)
				}
				return source
			}
			// Ten at a time: a service may have hundreds of tasks. Those of an
			// instance that have ended are one source, of which the latest are read.
			room := make(chan struct{}, 10)
			ended := map[string][]logTask{}
			for _, t := range tasks {
				if t.ended != nil {
					ended[t.instance] = append(ended[t.instance], t)
					continue
				}
				room <- struct{}{}
				wg.Go(func() {
					defer func() { <-room }()
					add(read(t))
				})
			}
			for _, list := range ended {
				room <- struct{}{}
				wg.Go(func() {
					defer func() { <-room }()
					slices.SortFunc(list, func(a, b logTask) int { return b.ended.Ended.Compare(a.ended.Ended) })
					var source []paasta.LogLine
					for i, t := range list {
						if len(source) >= q.lines || ctx.Err() != nil {
							break
						}
						if q.endedIn(*t.ended, i == 0, s.now()) {
							source = append(read(t), source...)
						}
					}
					slices.SortStableFunc(source, byTime)
					add(source)
				})
			}
		})
	}
	wg.Wait()
	slices.SortStableFunc(lines, byTime)
	return lines
}

func byTime(a, b paasta.LogLine) int { return a.Time.Compare(b.Time) }

// endedIn tells whether a task was there in the time that is asked for. Without
// any it is the latest to end, or has ended in the last day.
func (q logQuery) endedIn(e marathon.Ended, latest bool, now time.Time) bool {
	if q.from.IsZero() && q.to.IsZero() {
		return latest || now.Sub(e.Ended) < 24*time.Hour
	}
	return !e.Ended.Before(q.from) && (q.to.IsZero() || !e.Started.After(q.to))
}

// line is a line that the API itself has to say.
func (s *server) line(service, message string) paasta.LogLine {
	return paasta.LogLine{
		Time: s.now().UTC(), Component: componentAPI, Level: "event",
		Cluster: s.Cluster, Service: service, Instance: "N/A", Message: message,
	}
}

// deployLog reads the deploy log as it is stored. No log yet is no lines.
func deployLog(data []byte, err error) ([]paasta.LogLine, error) {
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []paasta.LogLine
	return lines, decode(data, &lines, "the deploy log")
}

// A logTask is a task whose output is read.
type logTask struct {
	marathon.Task
	from     Marathon
	instance string
	ended    *marathon.Ended // of a task that is no more; its output may be kept
}

// ending is the line that says how a task has ended; nil for one that has not.
func (s *server) ending(service string, t logTask) *paasta.LogLine {
	if t.ended == nil {
		return nil
	}
	text := fmt.Sprintf("%s on %s", t.ended.State, t.ended.Host)
	if t.ended.Message != "" {
		text += ": " + t.ended.Message
	}
	return &paasta.LogLine{
		Time: t.ended.Ended, Component: "marathon", Level: "event", Cluster: s.Cluster, Service: service,
		Instance: t.instance, Task: t.ID, Message: text,
	}
}

// tasks lists the tasks of instances, of all versions, with those that have
// ended and are still known: at least, of each version, the one that failed last.
func (s *server) tasks(ctx context.Context, service string, instances []string) ([]logTask, error) {
	type question struct {
		from     Marathon
		instance string
	}
	var questions []question
	for _, m := range s.Marathon {
		for _, name := range instances {
			questions = append(questions, question{m, name})
		}
	}
	found, err := gather(questions, unlimited, func(q question) (tasks []logTask, err error) {
		id := paasta.InstanceID{Service: service, Instance: q.instance}
		apps, err := q.from.AppsOf(ctx, id)
		ended, endedErr := q.from.Ended(ctx, id)
		for _, app := range apps {
			for _, t := range app.Tasks {
				tasks = append(tasks, logTask{Task: t, from: q.from, instance: q.instance})
			}
			if f := app.LastFailure; f != nil && f.Task != "" {
				ended = append(ended, marathon.Ended{ID: f.Task, AppID: app.ID, Host: f.Host, State: f.State, Message: f.Message, Ended: f.Time})
			}
		}
		for _, e := range ended {
			tasks = append(tasks, logTask{Task: marathon.Task{ID: e.ID, AppID: e.AppID, Host: e.Host, State: e.State}, from: q.from, instance: q.instance, ended: &e})
		}
		return tasks, errors.Join(err, endedErr)
	})
	seen := map[string]bool{} // two frameworks may have one Mesos
	return slices.DeleteFunc(slices.Concat(found...), func(t logTask) bool {
		again := seen[t.ID]
		seen[t.ID] = true
		return again
	}), err
}

// output calls each with the lines of a task's output that are asked for.
func (s *server) output(ctx context.Context, service string, t logTask, q logQuery, follow bool, each func(paasta.LogLine) error) error {
	return t.from.TaskLogs(ctx, t.ID, q.lines, follow, func(stream string, at time.Time, text string) error {
		l := paasta.LogLine{
			Time: at, Component: stream, Level: "event", Cluster: s.Cluster,
			Service: service, Instance: t.instance, Task: t.ID, Message: text,
		}
		if !q.wants(l) {
			return nil
		}
		return each(l)
	})
}

// A logWriter writes lines as NDJSON, and never waits long for a reader.
type logWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (o *logWriter) write(l paasta.LogLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return o.raw(append(b, '\n'))
}

func (o *logWriter) raw(b []byte) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(readWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	_, err := o.w.Write(b)
	return err
}

func (o *logWriter) flush() error {
	if err := o.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
