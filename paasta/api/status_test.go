package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// steady is a snapshot in which web.main runs as asked for.
func steady() *snapshot {
	tree := webTree()
	n := &snapshot{
		cluster: cluster, tree: tree, svc: tree.Services["web"],
		deployed: Deployments{
			Known: true, Groups: map[string]deployments.Deployment{"prod.main": {GitSHA: sha}},
			Controls: map[string]deployments.Control{"main": {DesiredState: "start"}},
		},
		apps:    []marathon.App{appOf(appID, 3, 3)},
		bounces: map[string]paasta.BounceStatus{"main": {Instance: "main", Method: "crossover", State: "steady", App: appID}},
		leads:   true,
		agents:  1,
		views:   map[string][]AgentView{"web.main": {{Host: "host1", Up: 3, Backends: backends(3).Backends}}},
	}
	return n
}

func appOf(id string, size, running int) marathon.App {
	a := marathon.App{ID: id, Size: size, Created: longAgo, HealthChecks: 1, Image: "r/services-web:paasta-" + sha}
	for _, b := range backends(running).Backends {
		a.Tasks = append(a.Tasks, marathon.Task{
			ID: strings.Replace(b.TaskID, appID, id, 1), AppID: id, Host: "host1", Ports: []int{b.Port}, State: "TASK_RUNNING", Alive: 1, Results: 1,
		})
	}
	return a
}

func TestInstance(t *testing.T) {
	t.Parallel()
	type want struct {
		ok     bool
		status string
		note   string // part of one; "" for no notes at all
	}
	for _, tc := range []struct {
		name   string
		change func(*snapshot)
		want   want
		check  func(InstanceStatus) bool
	}{
		{"all is as asked for", func(*snapshot) {}, want{true, "Running", ""}, func(s InstanceStatus) bool {
			return s.AppID == appID && s.GitSHA == sha && s.Running == 3 && s.Healthy == 3 && s.Versions[0].GitSHA == sha && s.Smartstack.Expected == 3
		}},
		{
			"an old version is still there", func(n *snapshot) { n.apps = append(n.apps, appOf(oldApp, 1, 1)) },
			want{false, "Running", ""},
			func(s InstanceStatus) bool { return s.AppCount == 2 && s.Running == 4 && s.Versions[0].Desired },
		},
		{
			"only the old version is there", func(n *snapshot) { n.apps = []marathon.App{appOf(oldApp, 3, 3)} },
			want{false, "NotRunning", ""},
			func(s InstanceStatus) bool { return s.AppID == appID && !s.Versions[0].Desired },
		},
		{
			"tags are ahead of deployd", func(n *snapshot) {
				n.deployed.Groups["prod.main"] = deployments.Deployment{GitSHA: strings.Repeat("f", 40)}
			},
			want{false, "NotRunning", ""},
			func(s InstanceStatus) bool { return s.AppID == "" },
		},
		{"tasks wait for room", func(n *snapshot) {
			n.apps = []marathon.App{appOf(appID, 3, 1)}
			n.queue = []marathon.QueueItem{{AppID: appID, Missing: 2, Overdue: true, Delay: time.Minute, Rejected: map[string]int{"InsufficientCpus": 3}}}
		}, want{false, "Waiting", ""}, func(s InstanceStatus) bool { return s.Rejected["InsufficientCpus"] == 3 }},
		{"tasks crash", func(n *snapshot) {
			n.apps = []marathon.App{appOf(appID, 3, 1)}
			n.queue = []marathon.QueueItem{{AppID: appID, Missing: 2, Delay: time.Minute}}
		}, want{false, "Delayed", ""}, func(s InstanceStatus) bool { return s.BackoffSeconds == 60 }},
		{"Marathon changes the app", func(n *snapshot) {
			n.apps = []marathon.App{appOf(appID, 3, 2)}
			n.apps[0].Deployments = []string{"d1"}
		}, want{false, "Deploying", ""}, nil},
		{
			"a task is unhealthy", func(n *snapshot) { n.apps[0].Tasks[1].Alive, n.apps[0].Tasks[1].Failing = 0, true },
			want{false, "Running", ""},
			func(s InstanceStatus) bool { return s.Healthy == 2 && s.Versions[0].Tasks[1].Health == "unhealthy" },
		},
		{
			"no result yet is not unhealthy", func(n *snapshot) { n.apps[0].Tasks[1].Alive, n.apps[0].Tasks[1].Results = 0, 0 },
			want{false, "Running", ""},
			func(s InstanceStatus) bool { return s.Versions[0].Tasks[1].Health == "unknown" },
		},
		{
			"no checks are defined", func(n *snapshot) { n.apps[0].HealthChecks = 0 },
			want{true, "Running", ""},
			func(s InstanceStatus) bool { return s.Healthy == 3 && s.Versions[0].Tasks[0].Health == "none" },
		},
		{
			"stopped and gone", func(n *snapshot) {
				n.deployed.Controls["main"] = deployments.Control{DesiredState: "stop"}
				n.apps = nil
				n.bounces = nil
			},
			want{true, "Stopped", ""},
			func(s InstanceStatus) bool { return s.DesiredState == "stop" && s.Expected == 0 },
		},
		{
			"stopped and still running", func(n *snapshot) { n.deployed.Controls["main"] = deployments.Control{DesiredState: "stop"} },
			want{false, "Running", ""},
			nil,
		},
		{
			"never deployed", func(n *snapshot) { n.deployed.Groups = nil; n.apps = nil; n.bounces = nil },
			want{false, "NotDeployed", ""},
			func(s InstanceStatus) bool { return s.GitSHA == "" },
		},
		{
			"tags were never read", func(n *snapshot) {
				n.deployed, n.apps, n.bounces = Deployments{}, nil, nil
				svc := *n.svc
				svc.GitURL = "git@example.com:web"
				n.svc = &svc
			},
			want{false, "NotRunning", "has not read the tags"},
			nil,
		},
		{
			"no repository is named", func(n *snapshot) { n.deployed, n.apps, n.bounces = Deployments{}, nil, nil },
			want{false, "NotDeployed", "it has no git_url"},
			nil,
		},
		{
			"never deployed, and something runs", func(n *snapshot) { n.deployed.Groups, n.bounces = nil, nil },
			want{false, "Running", ""},
			nil,
		},
		{
			"never deployed, and Marathon does not answer", func(n *snapshot) {
				n.deployed.Groups, n.apps, n.bounces, n.marathonErr = nil, nil, nil, errors.New("down")
			},
			want{false, "Unknown", "what runs is unknown"},
			nil,
		},
		{"a bounce waits", func(n *snapshot) {
			n.bounces["main"] = paasta.BounceStatus{Instance: "main", State: "waiting", App: appID, Why: "not yet up"}
		}, want{false, "Running", ""}, func(s InstanceStatus) bool { return s.Bounce.Why == "not yet up" }},
		{
			"nobody leads", func(n *snapshot) { n.leads, n.bounces = false, nil },
			want{true, "Running", "no deployd leads"},
			func(s InstanceStatus) bool { return s.Bounce == nil && s.AppID == appID },
		},
		{
			"deployd does not answer", func(n *snapshot) { n.bounces, n.bouncesErr = nil, errors.New("GET x: refused") },
			want{true, "Running", "GET x: refused"},
			nil,
		},
		{
			"Marathon does not answer", func(n *snapshot) { n.apps, n.marathonErr = nil, errors.New("GET m: refused") },
			want{false, "Unknown", "GET m: refused"},
			nil,
		},
		{"ZooKeeper does not answer", func(n *snapshot) {
			n.deployed, n.deployedErr, n.bounces, n.bouncesErr = Deployments{}, errors.New("zk"), nil, errors.New("zk")
			n.agents, n.views, n.agentsErr = 0, nil, errors.New("zk")
		}, want{false, "Running", "zk"}, func(s InstanceStatus) bool { return s.Running == 3 && s.AppID == appID }},
		{
			"a backend is down on a host", func(n *snapshot) { n.views["web.main"][0].Backends[2].Up = false },
			want{false, "Running", ""},
			nil,
		},
		{"a host's clients do not discover it", func(n *snapshot) {
			far := AgentView{Host: "host2", Elsewhere: 3, Backends: slices.Clone(n.views["web.main"][0].Backends)}
			for i := range far.Backends {
				far.Backends[i].Up, far.Backends[i].Status = false, paasta.BackendElsewhere
			}
			n.views["web.main"] = append(n.views["web.main"], far)
		}, want{true, "Running", ""}, nil},
		{"one of two hosts is silent", func(n *snapshot) {
			n.agents = 2
			n.views["web.main"] = append(n.views["web.main"], AgentView{Host: "host2", Error: "no answer in time"})
		}, want{true, "Running", "host2"}, nil},
		{"all hosts are silent", func(n *snapshot) {
			n.views["web.main"] = []AgentView{{Host: "host2", Error: "no answer in time"}}
		}, want{false, "Running", "host2"}, nil},
		{
			"no host announces an agent", func(n *snapshot) { n.agents, n.views = 0, nil },
			want{true, "Running", "no host announces an agent"},
			nil,
		},
		{"autoscaled to what was asked for, within its limits", func(n *snapshot) {
			i, limit := n.svc.Instances[cluster].Valid["main"], 5
			i.MinInstances, i.MaxInstances = 2, &limit
			n.svc.Instances[cluster].Valid["main"] = i
			n.sizes = map[string]int{"main": 9}
		}, want{false, "Running", ""}, func(s InstanceStatus) bool { return s.Expected == 5 && s.Smartstack.Expected == 5 }},
		{"autoscaled and nobody asked", func(n *snapshot) {
			i, limit := n.svc.Instances[cluster].Valid["main"], 3
			i.MaxInstances = &limit
			n.svc.Instances[cluster].Valid["main"] = i
		}, want{true, "Running", ""}, func(s InstanceStatus) bool { return s.Expected == 3 }},
		{"broken in soa-configs", func(n *snapshot) {
			e := n.svc.Instances[cluster]
			delete(e.Valid, "main")
			n.apps[0].Labels = map[string]string{marathon.LabelRegistrations: "web.main,web.other"}
			e.Invalid["main"] = soaconfig.Problems{{File: "f", Line: 1, Column: 2, Text: "bad"}}
		}, want{false, "Running", "f:1:2: bad"}, func(s InstanceStatus) bool {
			return s.Running == 3 && s.Expected == 3 && s.GitSHA == sha && s.AppID == appID &&
				s.Smartstack != nil && s.Smartstack.Registration == "web.main" && s.Smartstack.Expected == 3 && len(s.Smartstack.Hosts) == 1
		}},
		{"an app of another instance with a longer name is not ours", func(n *snapshot) {
			n.apps = append(n.apps, appOf("web.main_two.git591ae8a7.configbfdfd109", 1, 1), appOf("web.mai.git591ae8a7.configbfdfd109", 1, 1))
		}, want{true, "Running", ""}, func(s InstanceStatus) bool { return s.AppCount == 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := steady()
			tc.change(n)
			s := n.instance("main")
			if s.OK != tc.want.ok || s.DeployStatus != tc.want.status {
				t.Errorf("ok %v, status %s; want %v, %s\n%+v", s.OK, s.DeployStatus, tc.want.ok, tc.want.status, s)
			}
			notes := strings.Join(s.Notes, "\n")
			if (tc.want.note == "") != (notes == "") || !strings.Contains(notes, tc.want.note) {
				t.Errorf("notes:\n%s\nwant one with %q", notes, tc.want.note)
			}
			if tc.check != nil && !tc.check(s) {
				t.Errorf("unexpected: %+v", s)
			}
		})
	}
}

func TestChoosePrefersHostsWithTasks(t *testing.T) {
	t.Parallel()
	var hosts []string
	for c := 'a'; c <= 'z'; c++ {
		hosts = append(hosts, string(c))
	}
	got := choose(hosts, map[string]bool{"z": true, "c": true})
	if len(got) != maxAgents || got[0] != "c" || got[1] != "z" || got[2] != "a" {
		t.Errorf("chosen: %q", got)
	}
}

// What the task that failed last said is in the status of an instance that is
// not OK.
func TestLastWords(t *testing.T) {
	t.Parallel()
	m := newFakeMarathon()
	for n := range 9 {
		m.write("crashed", fmt.Sprintf("line %d%s", n, strings.Repeat("ü", 600)))
	}
	s := &server{Options: Options{Marathon: []Marathon{m}}}
	of := func(task string, age time.Duration) Version {
		return Version{LastFailure: &Failure{Task: task, Time: longAgo.Add(-age)}}
	}
	st := InstanceStatus{Versions: []Version{of("older", time.Hour), of("crashed", 0), {}}}
	s.lastWords(t.Context(), &st)
	got := st.Versions[1].LastFailure.Output
	if len(got) != 5 || !strings.HasPrefix(got[0], "line 4") || len(got[4]) > 1000 || !strings.HasSuffix(got[4], "ü") || st.Versions[0].LastFailure.Output != nil || st.Notes != nil {
		t.Errorf("%q, notes %q", got, st.Notes)
	}
}
