package marathon

import (
	"strings"
	"time"
)

// The answers of Marathon, as far as we need them. go-marathon's types fail for
// a whole list when one value in it has a type that it does not expect, so
// reading is ours.

type wireApp struct {
	ID           string            `json:"id"`
	Instances    float64           `json:"instances"`
	Labels       map[string]string `json:"labels"`
	HealthChecks []struct{}        `json:"healthChecks"`
	Version      string            `json:"version"`
	Env          struct {
		Team any `json:"PAASTA_MONITORING_TEAM"` // a value may be any JSON
	} `json:"env"`
	Container *struct {
		Docker *struct {
			Image string `json:"image"`
		} `json:"docker"`
	} `json:"container"`
	Deployments []struct {
		ID string `json:"id"`
	} `json:"deployments"`
	Tasks       []wireTask `json:"tasks"`
	LastFailure *struct {
		TaskID    string `json:"taskId"`
		Host      string `json:"host"`
		State     string `json:"state"`
		Message   string `json:"message"`
		Timestamp string `json:"timestamp"`
	} `json:"lastTaskFailure"`
	VersionInfo *struct {
		LastConfigChangeAt string `json:"lastConfigChangeAt"`
	} `json:"versionInfo"`
}

type wireTask struct {
	ID          string    `json:"id"`
	AppID       string    `json:"appId"`
	Host        string    `json:"host"`
	Ports       []float64 `json:"ports"`
	State       string    `json:"state"`
	StagedAt    string    `json:"stagedAt"`
	StartedAt   string    `json:"startedAt"`
	Version     string    `json:"version"`
	IPAddresses []struct {
		IPAddress string `json:"ipAddress"`
	} `json:"ipAddresses"`
	HealthCheckResults []*struct {
		Alive               bool    `json:"alive"`
		ConsecutiveFailures float64 `json:"consecutiveFailures"`
		LastFailure         *string `json:"lastFailure"`
		LastFailureCause    string  `json:"lastFailureCause"`
	} `json:"healthCheckResults"`
}

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

func (a wireApp) app() App {
	out := App{
		ID: strings.TrimPrefix(a.ID, "/"), Size: int(a.Instances), Labels: a.Labels,
		Created: parseTime(a.Version), HealthChecks: len(a.HealthChecks),
	}
	if a.VersionInfo != nil && a.VersionInfo.LastConfigChangeAt != "" {
		// A scale makes a new version; an app of ours is never changed otherwise.
		out.Created = parseTime(a.VersionInfo.LastConfigChangeAt)
	}
	out.Team, _ = a.Env.Team.(string)
	if a.Container != nil && a.Container.Docker != nil {
		out.Image = a.Container.Docker.Image
	}
	for _, d := range a.Deployments {
		out.Deployments = append(out.Deployments, d.ID)
	}
	for _, t := range a.Tasks {
		out.Tasks = append(out.Tasks, t.task(out.ID))
	}
	// Marathon calls a kill that was asked for a failure, too.
	if f := a.LastFailure; f != nil && f.State != "TASK_KILLED" && f.State != "TASK_FINISHED" {
		out.LastFailure = &Failure{Task: f.TaskID, Host: f.Host, State: f.State, Message: f.Message, Time: parseTime(f.Timestamp)}
	}
	return out
}

func (t wireTask) task(appID string) Task {
	out := Task{
		ID: t.ID, AppID: strings.TrimPrefix(t.AppID, "/"), Host: t.Host, IP: t.Host, State: t.State,
		StagedAt: parseTime(t.StagedAt), StartedAt: parseTime(t.StartedAt), Version: parseTime(t.Version),
	}
	if out.AppID == "" {
		out.AppID = appID
	}
	for _, p := range t.Ports {
		out.Ports = append(out.Ports, int(p))
	}
	// With host ports a task is reached at its host, never at the container's
	// own address; without, that address is all there is.
	if len(out.Ports) == 0 && len(t.IPAddresses) > 0 && t.IPAddresses[0].IPAddress != "" {
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
		case r.ConsecutiveFailures > 0 || r.LastFailure != nil:
			out.Failing = true
			if out.Cause == "" {
				out.Cause = r.LastFailureCause
			}
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
