package marathon_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon"
)

// A listener reads /v2/events.
type listener struct {
	t     testing.TB
	lines *bufio.Reader
	close context.CancelFunc
}

func (d *daemon) listen(query string) *listener {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/v2/events"+query, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream;charset=utf-8" {
		d.t.Errorf("content type %q", got)
	}
	d.t.Cleanup(func() { cancel(); resp.Body.Close() })
	return &listener{d.t, bufio.NewReader(resp.Body), cancel}
}

// next returns the next event, its type and its document.
func (l *listener) next() (string, map[string]any) {
	l.t.Helper()
	kind := ""
	for {
		line, err := l.lines.ReadString('\n')
		if err != nil {
			l.t.Fatalf("events: %v", err)
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			l.t.Fatalf("line %q does not end in CRLF", line)
		}
		if k, ok := strings.CutPrefix(text, "event: "); ok {
			kind = k
		}
		if data, ok := strings.CutPrefix(text, "data: "); ok {
			var doc map[string]any
			if err := json.Unmarshal([]byte(data), &doc); err != nil {
				l.t.Fatal(err)
			}
			if doc["eventType"] != kind || doc["timestamp"] == nil {
				l.t.Errorf("event %s carries %v", kind, doc)
			}
			return kind, doc
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	all := d.listen("")
	filtered := d.listen("?plan-format=light&event_type=deployment_info&event_type=status_update_event")
	if kind, doc := all.next(); kind != "event_stream_attached" || doc["remoteAddress"] == "" {
		t.Errorf("first event %s %v", kind, doc)
	}
	d.post(`{"id":"/e","cmd":"sleep 1000","cpus":0.1,"mem":16}`)
	var order []string
	for !slices.Contains(order, "deployment_success") {
		kind, doc := all.next()
		order = append(order, kind)
		if plan, ok := doc["plan"].(map[string]any); ok && (plan["original"] == nil || plan["target"] == nil) {
			t.Errorf("%s has a light plan that nobody asked for: %v", kind, doc)
		}
		if kind == "status_update_event" && doc["taskStatus"] == "TASK_RUNNING" && (doc["appId"] != "/e" || doc["host"] == "" || doc["ports"] == nil) {
			t.Errorf("%v", doc)
		}
	}
	after := func(a, b string) {
		t.Helper()
		if i, j := slices.Index(order, a), slices.Index(order, b); i < 0 || j < 0 || i > j {
			t.Errorf("%s is not before %s in %v", a, b, order)
		}
	}
	after("api_post_event", "group_change_success")
	after("group_change_success", "deployment_info")
	after("deployment_info", "deployment_step_success")
	after("status_update_event", "deployment_success")

	if kind, _ := filtered.next(); kind != "event_stream_attached" {
		t.Errorf("first event %s, whatever the filter says it is event_stream_attached", kind)
	}
	for range 4 {
		kind, doc := filtered.next()
		if kind != "deployment_info" && kind != "status_update_event" {
			t.Errorf("%s passed the filter", kind)
		}
		if plan, ok := doc["plan"].(map[string]any); ok && plan["original"] != nil {
			t.Errorf("%s has a heavy plan: %v", kind, doc)
		}
	}
}

// With the daemon the streams end, so that clients look for it again.
func TestEventsEndWithTheDaemon(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	l := d.listen("")
	l.next()
	d.stop()
	if _, err := io.ReadAll(l.lines); err != nil && !strings.Contains(err.Error(), "EOF") {
		t.Errorf("the stream ended with %v", err)
	}
}

// From the call that creates an app to the event that says that its task runs.
func BenchmarkCreateToRunning(b *testing.B) {
	d := start(b, func(o *marathon.Options) { o.Log = slog.New(slog.DiscardHandler) })
	l := d.listen("?event_type=status_update_event")
	l.next()
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("/bench", n)
		d.post(`{"id":"` + id + `","cmd":"exec sleep 1000","cpus":0.01,"mem":1}`)
		for {
			if _, doc := l.next(); doc["appId"] == id && doc["taskStatus"] == "TASK_RUNNING" {
				break
			}
		}
		b.StopTimer()
		d.call("DELETE", "/v2/apps"+id, "")
		b.StartTimer()
	}
}
