package marathon

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(text string) (events []Event, lines int, err error) {
	err = readEvents(strings.NewReader(text), func() { lines++ }, func(e Event) { events = append(events, e) })
	return events, lines, err
}

func TestReadEvents(t *testing.T) {
	t.Parallel()
	yes := true
	events, lines, err := read("event: status_update_event\r\n" +
		`data: {"appId":"/prod/web","taskId":"prod_web.1","taskStatus":"TASK_RUNNING","eventType":"status_update_event","timestamp":"2020-02-01T10:00:01.300Z"}` + "\r\n\r\n\r\n" +
		"event: instance_health_changed_event\ndata: {\"runSpecId\":\"/web\",\n" + "data: \"healthy\":true}\n\n" +
		"data: no JSON\n\n: a comment\nid: 3\n\n" +
		`data: {"eventType":"deployment_success","plan":{"steps":[{"actions":[{"app":"/a"},{"app":"/b"},{"app":"/a"}]}]}}` + "\n\n" +
		"event: event_stream_attached\ndata: {}\n\ndata: {\"appId\":\"/lost, since no empty line follows\"}\n")
	want := []Event{
		{Type: "status_update_event", AppID: "prod/web", TaskID: "prod_web.1", State: "TASK_RUNNING", Time: parseTime("2020-02-01T10:00:01.300Z")},
		{Type: "instance_health_changed_event", AppID: "web", Alive: &yes},
		{Type: "deployment_success", AppID: "a"},
		{Type: "deployment_success", AppID: "b"},
		{Type: "event_stream_attached"},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if err == nil {
		t.Error("a stream that ended is no error")
	}
	if lines < 15 {
		t.Errorf("%d lines were signs of life, want every one", lines)
	}
}

// Whatever Marathon sends, or something that is none, reading ends with an
// error and does not panic.
func FuzzReadEvents(f *testing.F) {
	f.Add("event: a\ndata: {\"appId\":\"/x\"}\n\n")
	f.Add("data: {\"plan\":{\"steps\":[{\"actions\":[null]}]}}\r\n\r\n")
	f.Add(":\n\n\x00data")
	f.Fuzz(func(t *testing.T, text string) {
		events, _, err := read(text)
		if err == nil {
			t.Error("no error at the end")
		}
		for _, e := range events {
			if strings.HasPrefix(e.AppID, "//") {
				continue
			}
			if strings.HasPrefix(e.AppID, "/") {
				t.Errorf("app id %q keeps its slash", e.AppID)
			}
		}
	})
}
