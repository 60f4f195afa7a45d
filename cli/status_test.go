package cli

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

const (
	testSHA = "591ae8a7b3224e3b3322370b858377dd6ef335b6"
	testApp = "web.main.git591ae8a7.configbfdfd109"
)

// healthy is an instance that runs what was asked for.
func healthy() api.InstanceStatus {
	port := 20001
	s := api.InstanceStatus{
		Service: "web", Instance: "main", Cluster: "test", GitSHA: testSHA, DeployGroup: "test.main", DesiredState: "start",
		AppID: testApp, AppCount: 1, BounceMethod: "crossover", MarginFactor: 1, Expected: 2, Running: 2, Healthy: 2, DeployStatus: "Running",
		Bounce:     &paasta.BounceStatus{Service: "web", Instance: "main", Method: "crossover", State: "steady", App: testApp, Since: testNow.Add(-2 * time.Hour)},
		Smartstack: &api.SmartstackStatus{Registration: "web.main", ProxyPort: &port, Expected: 2, Agents: 1},
		OK:         true,
	}
	v := api.Version{AppID: testApp, GitSHA: testSHA, Config: "configbfdfd109", Desired: true, Size: 2, Created: testNow.Add(-2 * time.Hour)}
	host := api.AgentView{Host: "host1", Up: 2}
	for n := 1; n <= 2; n++ {
		t := api.Task{
			ID: fmt.Sprintf("web_main.task%d", n), Host: "10.77.1.1", Port: 31000 + n, State: "TASK_RUNNING", Health: "healthy", Started: testNow.Add(-2 * time.Hour),
		}
		v.Tasks = append(v.Tasks, t)
		host.Backends = append(host.Backends, paasta.AgentBackend{
			Name: "web_x", Host: t.Host, Port: t.Port, TaskID: t.ID, Weight: 10, Status: "UP", Up: true, LastCheck: "L7OK/200 in 3ms", Since: testNow.Add(-time.Hour),
		})
	}
	s.Versions, s.Smartstack.Hosts = []api.Version{v}, []api.AgentView{host}
	return s
}

// elsewhere is one of which some hosts' clients discover nothing, or a part.
func elsewhere() api.InstanceStatus {
	s := healthy()
	far := slices.Clone(s.Smartstack.Hosts[0].Backends)
	for i := range far {
		far[i].Up, far[i].Status, far[i].LastCheck, far[i].Since = false, paasta.BackendElsewhere, "", time.Time{}
	}
	half := []paasta.AgentBackend{s.Smartstack.Hosts[0].Backends[0], far[1]}
	s.Smartstack.Hosts = append(s.Smartstack.Hosts, api.AgentView{Host: "far1", Elsewhere: 2, Backends: far}, api.AgentView{Host: "half1", Up: 1, Elsewhere: 1, Backends: half})
	s.Smartstack.Agents = 3
	return s
}

// bouncing waits for a host's HAProxy.
func bouncing() api.InstanceStatus {
	s := healthy()
	s.OK, s.AppCount, s.Running, s.Healthy = false, 2, 3, 2
	s.Versions[0].Tasks[1].Health = "unknown"
	s.Versions[0].Created = testNow.Add(-time.Minute)
	s.Versions = append(s.Versions, api.Version{
		AppID: "web.main.git0ld0ld00.configbfdfd109", GitSHA: "0ld0ld00", Size: 1, Created: testNow.Add(-48 * time.Hour),
		Tasks: []api.Task{{ID: "web_main.old1", Host: "10.77.2.1", Port: 31009, State: "TASK_RUNNING", Health: "healthy"}},
	})
	s.Smartstack.Hosts[0].Up = 1
	s.Smartstack.Hosts[0].Backends[1].Up, s.Smartstack.Hosts[0].Backends[1].Status = false, "PROBING"
	s.Smartstack.Hosts[0].Backends = append(s.Smartstack.Hosts[0].Backends, paasta.AgentBackend{
		Host: "10.77.3.1", Port: 31004, TaskID: "web_canary.task1", Status: "DRAIN", Since: testNow.Add(-time.Hour),
	})
	s.Smartstack.Agents = 23
	s.Bounce = &paasta.BounceStatus{
		Service: "web", Instance: "main", Method: "crossover", State: "waiting", App: testApp, Since: testNow.Add(-time.Minute),
		Why:   "1 of 2 new tasks is not happy yet",
		Steps: []paasta.BounceStep{{Time: testNow.Add(-time.Minute), Op: "create", Target: testApp, Why: "it does not exist"}},
		Tasks: []paasta.BounceTask{
			{ID: "web_main.task1", App: testApp, Host: "10.77.1.1", Port: 31001, State: "happy"},
			{ID: "web_main.task2", App: testApp, Host: "10.77.1.1", Port: 31002, State: "healthy", Why: "not yet up in the HAProxy of host1"},
		},
	}
	return s
}

// stuck finds no room, is not deployed, or cannot be asked.
func stuck() []api.InstanceStatus {
	waiting := healthy()
	waiting.Instance, waiting.OK, waiting.Running, waiting.Healthy, waiting.DeployStatus = "waiting", false, 0, 0, "Waiting"
	waiting.Rejected = map[string]int{"InsufficientCpus": 13, "UnfulfilledConstraint": 4}
	waiting.Versions[0].Tasks, waiting.Smartstack, waiting.Bounce = nil, nil, nil
	delayed := waiting
	delayed.Versions = []api.Version{waiting.Versions[0]}
	delayed.Versions[0].LastFailure = &api.Failure{Task: "t0", Host: "10.77.1.1", State: "TASK_FAILED", Message: "exited with 1", Time: testNow.Add(-time.Minute), Output: []string{"starts", "no \x1b[2Jdatabase\u202e"}}
	delayed.Instance, delayed.DeployStatus, delayed.BackoffSeconds, delayed.Rejected = "delayed", "Delayed", 30, nil
	never := api.InstanceStatus{Service: "web", Instance: "never", Cluster: "test", DesiredState: "start", DeployGroup: "prod.main", Expected: 1, DeployStatus: "NotDeployed"}
	stopped := api.InstanceStatus{Service: "web", Instance: "stopped", Cluster: "test", GitSHA: testSHA, DesiredState: "stop", DeployStatus: "Stopped", OK: true}
	unknown := api.InstanceStatus{
		Service: "web", Instance: "unknown", Cluster: "test", GitSHA: testSHA, DesiredState: "start", Expected: 1, DeployStatus: "Unknown",
		Notes: []string{"what runs is unknown, or not all of it: GET http://m:8080/v2/apps: connection refused"},
	}
	return []api.InstanceStatus{waiting, delayed, never, stopped, unknown}
}

func TestStatusOutput(t *testing.T) {
	for _, tc := range []struct {
		name    string
		all     []api.InstanceStatus
		verbose int
	}{
		{"healthy", []api.InstanceStatus{healthy()}, 0},
		{"healthy-v", []api.InstanceStatus{healthy()}, 1},
		{"elsewhere-v", []api.InstanceStatus{elsewhere()}, 1},
		{"bouncing", []api.InstanceStatus{bouncing()}, 0},
		{"bouncing-v", []api.InstanceStatus{bouncing()}, 1},
		{"stuck", stuck(), 0},
	} {
		env, out, _ := testEnv()
		env.Config = func() (sysconfig.Config, error) {
			return sysconfig.Config{DashboardLinks: map[string]map[string][]string{"other": {"Marathon RO": {"http://m"}}}}, nil
		}
		p, err := newStatusPrinter(env, tc.verbose)
		if err != nil {
			t.Fatal(err)
		}
		p.print(t.Context(), tc.all)
		golden(t, "status-"+tc.name+".pipe", out.String())

		out.Reset()
		p.env = onTerminal(env)
		p.print(t.Context(), tc.all)
		golden(t, "status-"+tc.name+".terminal", out.String())
		if tc.verbose == 0 {
			env, out, stderr := testEnv()
			printStatusLines(env, tc.all)
			golden(t, "status-"+tc.name+".lines", out.String()+stderr.String())
		}
	}
}

func TestDashboardLink(t *testing.T) {
	t.Parallel()
	p := statusPrinter{links: map[string]map[string][]string{"test": {"Marathon RO": {"http://m:8080/"}}}}
	if got, want := p.appLine("test", testApp), "Marathon dashboard: http://m:8080/ui/#/apps/%2F"+testApp; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
