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
	// Address is its agent's, where its ports are.
	Address string `json:"-"`
	Port    int    `json:"port"` // the first host port, 0 for none
	Ports   []int  `json:"ports"`
	State   string `json:"state"` // e.g. TASK_RUNNING
	IP      string `json:"ip"`    // of its container, "" for none of its own
	// Service and Instance are what its app's labels say, "" if it is not PaaSTA's.
	Service  string `json:"service"`
	Instance string `json:"instance"`
}

// LocalTasks asks the paasta marathon at url (e.g. http://127.0.0.1:8080) which
// tasks are on its agents now. A task that is not in the answer does not run.
func LocalTasks(ctx context.Context, url string) ([]LocalTask, error) {
	_, tasks, err := Local(ctx, url)
	return tasks, err
}

// Local asks as LocalTasks does, and says the addresses of the agents as well:
// the answer is complete for these, and tells nothing of any other.
func Local(ctx context.Context, url string) (addresses []string, tasks []LocalTask, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/paasta/agents", nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err // says the method and the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // what came of it
		return nil, nil, fmt.Errorf("GET %s: %s: %s", req.URL, resp.Status, strings.TrimSpace(string(body)))
	}
	var answer struct {
		Agents []struct {
			Address string      `json:"address"`
			Tasks   []LocalTask `json:"tasks"`
		} `json:"agents"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, nil, fmt.Errorf("GET %s: %w", req.URL, err)
	}
	if len(answer.Agents) == 0 {
		return nil, nil, fmt.Errorf("GET %s: the answer has no agents", req.URL)
	}
	for _, a := range answer.Agents {
		addresses = append(addresses, a.Address)
		for _, t := range a.Tasks {
			t.Address = a.Address
			tasks = append(tasks, t)
		}
	}
	return addresses, tasks, nil
}
