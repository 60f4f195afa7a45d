package marathon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// An Ended is a task that has ended and whose output TaskLogs may still find.
type Ended struct {
	ID       string    `json:"id"`
	AppID    string    `json:"app_id"` // without the leading slash
	Host     string    `json:"host"`
	GitSHA   string    `json:"git_sha"`
	State    string    `json:"state"`     // TASK_FAILED, TASK_KILLED, …
	Message  string    `json:"message"`   // "" on Mesos, whose master does not keep it
	ExitCode *int      `json:"exit_code"` // nil when it is not known
	Started  time.Time `json:"started"`   // zero when nobody saw it run
	Ended    time.Time `json:"ended"`
}

// Ended lists the tasks of an instance that have ended, oldest first: those that
// paasta marathon keeps, or the Mesos masters. A Marathon without either is no
// error and knows none.
func (c *Client) Ended(ctx context.Context, id paasta.InstanceID) ([]Ended, error) {
	var answer struct{ Tasks []Ended }
	var err error
	if c.sandboxes != nil {
		answer.Tasks, err = c.sandboxes.ended(ctx, id)
	} else {
		query := url.Values{"service": {id.Service}, "instance": {id.Instance}}
		err = c.call(ctx, http.MethodGet, "/paasta/tasks?"+query.Encode(), nil, &answer)
		if status := new(StatusError); errors.Is(err, ErrNotFound) || errors.As(err, &status) && strings.HasPrefix(status.Message, "URI not found") {
			return nil, nil // another Marathon; from 1.7 on it says so with a 500
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list tasks of %s that have ended: %w", id, err)
	}
	for i := range answer.Tasks {
		answer.Tasks[i].AppID = strings.TrimPrefix(answer.Tasks[i].AppID, "/")
	}
	return answer.Tasks, nil
}

// ended lists the completed tasks of an instance.
func (s *sandboxes) ended(ctx context.Context, id paasta.InstanceID) ([]Ended, error) {
	state, err := s.leading(ctx)
	if err != nil {
		return nil, err
	}
	hosts := map[string]string{}
	for _, a := range state.Slaves {
		hosts[a.ID] = a.Hostname
	}
	var list []Ended
	for _, f := range slices.Concat(state.Frameworks, state.CompletedFrameworks) {
		for _, t := range f.CompletedTasks {
			labels := map[string]string{}
			for _, l := range t.Labels {
				labels[l.Key] = l.Value
			}
			if labels[LabelService] != id.Service || labels[LabelInstance] != id.Instance {
				continue
			}
			e := Ended{ID: t.ID, Host: hosts[t.SlaveID], GitSHA: labels[LabelGitSHA], State: t.State}
			if i := strings.LastIndex(t.ID, "."); i > 0 {
				e.AppID = t.ID[:i]
			}
			for _, st := range t.Statuses {
				at := time.UnixMilli(int64(st.Timestamp * 1000))
				switch st.State {
				case "TASK_RUNNING":
					if e.Started.IsZero() {
						e.Started = at
					}
				case t.State:
					e.Ended = at
				}
			}
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b Ended) int { return a.Ended.Compare(b.Ended) })
	return list, nil
}

var exited = regexp.MustCompile(`\bexited with status (\d+)`)

// exitCode is what Mesos' executors, and paasta marathon, say that a task exited
// with; nil when they do not.
func exitCode(message string) *int {
	m := exited.FindStringSubmatch(message)
	if m == nil {
		return nil
	}
	code, err := strconv.Atoi(m[1])
	if err != nil {
		return nil
	}
	return &code
}
