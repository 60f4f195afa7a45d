package marathon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A LocalTask is a task that runs, or may run, on this machine.
type LocalTask struct {
	ID    string `json:"id"`
	AppID string `json:"app_id"` // with its leading slash
	Host  string `json:"host"`   // its agent's name, as in Marathon's answers
	Port  int    `json:"port"`   // the first host port, 0 for none
	Ports []int  `json:"ports"`
	State string `json:"state"` // e.g. TASK_RUNNING
}

// LocalTasks asks the paasta marathon at url (e.g. http://127.0.0.1:8080) which
// tasks are on its agents now. A task that is not in the answer does not run.
func LocalTasks(ctx context.Context, url string) ([]LocalTask, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/paasta/agents", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err // says the method and the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // what came of it
		return nil, fmt.Errorf("GET %s: %s: %s", req.URL, resp.Status, strings.TrimSpace(string(body)))
	}
	var answer struct {
		Agents []struct {
			Tasks []LocalTask `json:"tasks"`
		} `json:"agents"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("GET %s: %w", req.URL, err)
	}
	var tasks []LocalTask
	for _, a := range answer.Agents {
		tasks = append(tasks, a.Tasks...)
	}
	return tasks, nil
}
