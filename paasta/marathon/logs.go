package marathon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrNoOutput says that this Marathon does not hand out the output of its
// tasks: only paasta marathon does. With Mesos it is in the agents' sandboxes,
// where it is read when Options.MesosMasters are known.
var ErrNoOutput = errors.New("this Marathon does not hand out the output of its tasks; Mesos does (Try: set mesos_masters in the system config of paasta api)")

// TaskLogs calls each with the lines of a task's output, oldest first: the
// latest tail lines of each stream, and with follow those to come, until ctx or
// the task ends. stream is stdout or stderr. What each returns ends it. A task
// that is not known any more is ErrNotFound.
//
// On Mesos the output is read where it is, in the sandbox on the task's agent,
// which knows no time of a line: it is the time at which the file was last
// written, or, of what is added later, at which that was seen.
func (c *Client) TaskLogs(ctx context.Context, task string, tail int, follow bool, each func(stream string, at time.Time, text string) error) error {
	if c.sandboxes != nil {
		if err := c.output(ctx, task, tail, follow, each); err != nil {
			return fmt.Errorf("read the output of task %s: %w", task, err)
		}
		return nil
	}
	path := "/paasta/tasks/" + url.PathEscape(task) + "/logs?lines=" + strconv.Itoa(tail)
	hc := c.http
	if follow {
		path += "&follow=true"
		hc = c.stream
	}
	response, err := c.do(ctx, hc, http.MethodGet, path, http.Header{"Accept": {"application/x-ndjson"}}, nil)
	if answer := new(StatusError); errors.As(err, &answer) && strings.HasPrefix(answer.Message, "URI not found") {
		return ErrNoOutput // from Marathon 1.7 on this is a 500
	}
	if err != nil {
		return fmt.Errorf("read the output of task %s: %w", task, err)
	}
	if response.StatusCode/100 != 2 {
		answer := failure(response)
		if answer.Code == http.StatusNotFound && !strings.Contains(answer.Message, "does not exist") {
			return ErrNoOutput // it does not know the path, which may be in its answer
		}
		return fmt.Errorf("read the output of task %s: GET %s: %w", task, response.Request.URL, answer)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		var l struct {
			Time    time.Time `json:"timestamp"`
			Stream  string    `json:"stream"`
			Message string    `json:"message"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("read the output of task %s: GET %s: %w", task, response.Request.URL, err)
		}
		if err := each(l.Stream, l.Time, l.Message); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the output of task %s: GET %s: %w", task, response.Request.URL, err)
	}
	return nil
}
