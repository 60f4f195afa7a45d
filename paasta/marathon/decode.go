package marathon

import (
	"cmp"
	"strings"
	"time"

	gomarathon "github.com/gambol99/go-marathon"
)

// A wireQueueItem is an entry of the launch queue. go-marathon's has no summary of
// offers, and takes no fraction of a second.
type wireQueueItem struct {
	Count float64 `json:"count"`
	Delay struct {
		TimeLeftSeconds float64 `json:"timeLeftSeconds"`
		Overdue         bool    `json:"overdue"`
	} `json:"delay"`
	App struct {
		ID string `json:"id"`
	} `json:"app"`
	Processed struct {
		Last []struct {
			Reason   string  `json:"reason"`
			Declined float64 `json:"declined"`
		} `json:"rejectSummaryLastOffers"`
	} `json:"processedOffersSummary"`
}

func appOf(a gomarathon.Application) App {
	out := App{ID: strings.TrimPrefix(a.ID, "/"), Created: parseTime(a.Version)}
	if a.VersionInfo != nil && a.VersionInfo.LastConfigChangeAt != "" {
		// A scale makes a new version; an app of ours is never changed otherwise.
		out.Created = parseTime(a.VersionInfo.LastConfigChangeAt)
	}
	if a.Instances != nil {
		out.Size = *a.Instances
	}
	if a.Labels != nil {
		out.Labels = *a.Labels
	}
	if a.HealthChecks != nil {
		out.HealthChecks = len(*a.HealthChecks)
	}
	if a.Env != nil {
		out.Team = (*a.Env)["PAASTA_MONITORING_TEAM"]
	}
	if a.Container != nil && a.Container.Docker != nil {
		out.Image = a.Container.Docker.Image
	}
	for _, d := range a.Deployments {
		out.Deployments = append(out.Deployments, d["id"])
	}
	for _, t := range a.Tasks {
		out.Tasks = append(out.Tasks, taskOf(t, out.ID))
	}
	// Marathon calls a kill that was asked for a failure, too.
	if f := a.LastTaskFailure; f != nil && f.State != "TASK_KILLED" && f.State != "TASK_FINISHED" {
		out.LastFailure = &Failure{Task: f.TaskID, Host: f.Host, State: f.State, Message: f.Message, ExitCode: exitCode(f.Message), Time: parseTime(f.Timestamp)}
	}
	return out
}

func taskOf(t *gomarathon.Task, appID string) Task {
	out := Task{
		ID: t.ID, AppID: cmp.Or(strings.TrimPrefix(t.AppID, "/"), appID), Host: t.Host, IP: t.Host, Ports: t.Ports, State: t.State,
		StagedAt: parseTime(t.StagedAt), StartedAt: parseTime(t.StartedAt), Version: parseTime(t.Version),
	}
	// With host ports a task is reached at its host, never at the container's
	// own address; without, that address is all there is.
	if len(t.Ports) == 0 && len(t.IPAddresses) > 0 && t.IPAddresses[0].IPAddress != "" {
		out.IP = t.IPAddresses[0].IPAddress
	}
	for _, r := range t.HealthCheckResults {
		if r == nil {
			continue // old Marathons write null for a check that has not run
		}
		out.Results++
		switch {
		case r.Alive:
			out.Alive++
		case r.ConsecutiveFailures > 0 || r.LastFailure != "":
			out.Failing = true
			out.Cause = cmp.Or(out.Cause, r.LastFailureCause)
		}
	}
	return out
}

func (q wireQueueItem) item() QueueItem {
	out := QueueItem{
		AppID: strings.TrimPrefix(q.App.ID, "/"), Missing: int(q.Count), Overdue: q.Delay.Overdue,
		Delay: time.Duration(q.Delay.TimeLeftSeconds * float64(time.Second)),
	}
	for _, r := range q.Processed.Last {
		if r.Declined > 0 {
			if out.Rejected == nil {
				out.Rejected = map[string]int{}
			}
			out.Rejected[r.Reason] += int(r.Declined)
		}
	}
	return out
}

// parseTime returns the zero time for what is no timestamp of Marathon's.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
