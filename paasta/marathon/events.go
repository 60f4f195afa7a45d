package marathon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// eventTypes are those that may change what we do; Marathon filters by them.
var eventTypes = []string{
	"event_stream_attached", "status_update_event", "health_status_changed_event",
	"instance_health_changed_event", "unhealthy_task_kill_event", "unhealthy_instance_kill_event",
	"deployment_success", "deployment_failed", "deployment_step_success", "app_terminated_event",
}

// idle is how long the stream may be silent: Marathon sends a heartbeat about
// every 10 seconds, so a longer silence is a connection that is half open.
const idle = 30 * time.Second

// maxEvent bounds one event: heavy deployment plans are megabytes.
const maxEvent = 64 << 20

// Events calls each with the events of Marathon's stream, in order, until ctx
// ends, and then returns nil. There is no replay: whenever the stream is
// (re)connected, attached is called first, and the caller reads what it may
// have missed. An event that concerns several apps comes once for each.
func (c *Client) Events(ctx context.Context, each func(Event), attached func()) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 100 * time.Millisecond
	retry.MaxInterval = 3 * time.Second
	said := "" // of the failure that goes on
	for {
		began := time.Now()
		err := c.attach(ctx, each, func() {
			said = ""
			attached()
		})
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 10*time.Second {
			retry.Reset()
		}
		pause := retry.NextBackOff()
		if said != err.Error() {
			said = err.Error()
			c.log.Warn("read marathon's event stream failed, reconnecting", "err", err, "retry_in", pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// attach reads one connection to its end. A stream that ended is an error.
func (c *Client) attach(ctx context.Context, each func(Event), attached func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	query := url.Values{"event_type": eventTypes, "plan-format": {"light"}}
	header := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
	response, err := c.do(ctx, c.stream, http.MethodGet, "/v2/events?"+query.Encode(), header, nil)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %w", response.Request.URL, failure(response))
	}
	defer response.Body.Close()
	silence := time.AfterFunc(idle, func() {
		cancel(fmt.Errorf("nothing came for %s, not even a heartbeat", idle))
	})
	defer silence.Stop()
	attached()
	err = readEvents(response.Body, func() { silence.Reset(idle) }, each)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// readEvents reads a stream of server-sent events; alive is called for every
// line, heartbeats too. It returns the error that ended the stream, io.EOF as
// something readable.
func readEvents(r io.Reader, alive func(), each func(Event)) error {
	lines := bufio.NewReaderSize(r, 64<<10)
	var kind string
	var data []byte
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return errors.New("closed by marathon")
		}
		if err != nil {
			return err
		}
		alive()
		name, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case len(line) == 0:
			if len(data) > 0 {
				for _, e := range parseEvent(kind, data) {
					each(e)
				}
			}
			kind, data = "", nil
		case name == "event":
			kind = value
		case name == "data":
			if len(data)+len(value) > maxEvent {
				return fmt.Errorf("an event of more than %d bytes", maxEvent)
			}
			if len(data) > 0 {
				data = append(data, '\n')
			}
			data = append(data, value...)
		}
	}
}

// readLine reads a line without its end, at most maxEvent long.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(line) > maxEvent {
				return nil, fmt.Errorf("a line of more than %d bytes", maxEvent)
			}
		case err != nil:
			return nil, err
		default:
			return []byte(strings.TrimRight(string(line), "\r\n")), nil
		}
	}
}

// parseEvent reads one event. What is no JSON is no event; what names several
// apps is one event for each.
func parseEvent(kind string, data []byte) []Event {
	var w struct {
		EventType  string `json:"eventType"`
		AppID      string `json:"appId"`
		RunSpecID  string `json:"runSpecId"`
		TaskID     string `json:"taskId"`
		TaskStatus string `json:"taskStatus"`
		Alive      *bool  `json:"alive"`
		Healthy    *bool  `json:"healthy"`
		Timestamp  string `json:"timestamp"`
		Plan       struct {
			Steps []struct {
				Actions []struct {
					App string `json:"app"`
				} `json:"actions"`
			} `json:"steps"`
		} `json:"plan"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return nil
	}
	e := Event{Type: w.EventType, TaskID: w.TaskID, State: w.TaskStatus, Alive: w.Alive, Time: parseTime(w.Timestamp)}
	if e.Type == "" {
		e.Type = kind
	}
	if e.Alive == nil {
		e.Alive = w.Healthy
	}
	ids := []string{w.AppID}
	if w.AppID == "" && w.RunSpecID != "" {
		ids[0] = w.RunSpecID
	}
	if ids[0] == "" {
		seen := map[string]bool{}
		for _, step := range w.Plan.Steps {
			for _, action := range step.Actions {
				if action.App != "" && !seen[action.App] {
					seen[action.App] = true
					ids = append(ids, action.App)
				}
			}
		}
		if len(ids) > 1 {
			ids = ids[1:]
		}
	}
	events := make([]Event, len(ids))
	for i, id := range ids {
		events[i] = e
		events[i].AppID = strings.TrimPrefix(id, "/")
	}
	return events
}
