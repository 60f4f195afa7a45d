package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*api.InstanceStatus)
		done   bool
		why    string
	}{
		"all is well":                  {func(*api.InstanceStatus) {}, true, "2 instances"},
		"the tag is not read yet":      {func(s *api.InstanceStatus) { s.GitSHA = strings.Repeat("0", 40) }, false, "right sha"},
		"a short sha":                  {func(s *api.InstanceStatus) { s.GitSHA = testSHA[:8] }, true, ""},
		"no sha":                       {func(s *api.InstanceStatus) { s.GitSHA = "" }, false, "none"},
		"stopped":                      {func(s *api.InstanceStatus) { s.DesiredState, s.AppCount = "stop", 0 }, true, "0 instances"},
		"stopped, with the old commit": {func(s *api.InstanceStatus) { s.DesiredState, s.GitSHA = "stop", "0000000000" }, false, "right sha"},
		"size 0":                       {func(s *api.InstanceStatus) { s.Expected = 0 }, true, ""},
		"two versions":                 {func(s *api.InstanceStatus) { s.AppCount = 2 }, false, "2 versions running"},
		"only the old version":         {func(s *api.InstanceStatus) { s.Versions[0].Desired = false }, false, "isn't in Marathon yet"},
		"bouncing, and why":            {func(s *api.InstanceStatus) { s.Bounce.State, s.Bounce.Why = "waiting", "for a\nprobe" }, false, "waiting: for a probe"},
		"deployd names the instance": {func(s *api.InstanceStatus) {
			s.Bounce.State, s.Bounce.Why = "waiting", "web.main: not deployed yet"
		}, false, "waiting: not deployed yet"},
		"bouncing":         {func(s *api.InstanceStatus) { s.Bounce.State = "bouncing" }, false, "is bouncing"},
		"no deployd leads": {func(s *api.InstanceStatus) { s.Bounce = nil }, true, ""},
		"not running":      {func(s *api.InstanceStatus) { s.DeployStatus = "Stopped" }, false, "isn't running yet: Stopped"},
		"ZooKeeper is down": {func(s *api.InstanceStatus) {
			s.GitSHA, s.GitUnknown, s.Notes = "", true, []string{"which commit should run is unknown: no session"}
		}, false, "cannot be judged: which commit should run is unknown: no session"},
		"Marathon is down": {func(s *api.InstanceStatus) {
			s.DeployStatus, s.Notes = "Unknown", []string{"what runs is unknown: refused"}
		}, false, "what runs is unknown: refused"},
		"too few":                     {func(s *api.InstanceStatus) { s.Running = 1 }, false, "has 1 out of 2 required instances (out of a total of 2)"},
		"as many as the margin wants": {func(s *api.InstanceStatus) { s.Running, s.MarginFactor = 1, 0.5 }, true, "1 instance"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			tt.change(&s)
			done, why := judge(answer{"test", []api.InstanceStatus{s}, nil}, "main", testSHA)
			if done != tt.done || !strings.Contains(why, tt.why) {
				t.Errorf("judge says %v, %q; want %v, %q", done, why, tt.done, tt.why)
			}
		})
	}
	crashed := healthy()
	crashed.DeployStatus = "Delayed"
	crashed.Versions[0].LastFailure = &api.Failure{State: "TASK_FAILED", Message: "exited with\nstatus 3"}
	if why, want := crashing(answer{"test", []api.InstanceStatus{crashed}, nil}, "main"), "; its tasks fail: TASK_FAILED: exited with status 3"; why != want {
		t.Errorf("crashing says %q, want %q", why, want)
	}
	if done, why := judge(answer{cluster: "test"}, "main", testSHA); done || !strings.Contains(why, "not known") {
		t.Errorf("not there: %v, %q", done, why)
	}
	if done, why := judge(answer{cluster: "test", err: errors.New("refused")}, "main", testSHA); done || !strings.Contains(why, "refused") {
		t.Errorf("no answer: %v, %q", done, why)
	}
}

// Only a bounce that failed ends a pipeline, not an outage around it.
func TestIsFailed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*api.InstanceStatus)
		want   bool
	}{
		"it failed":            {func(*api.InstanceStatus) {}, true},
		"another commit's did": {func(s *api.InstanceStatus) { s.GitSHA = strings.Repeat("0", 40) }, false},
		"Marathon is down":     {func(s *api.InstanceStatus) { s.DeployStatus = "Unknown" }, false},
		"ZooKeeper is down":    {func(s *api.InstanceStatus) { s.GitUnknown = true }, false},
		"a round could not read": {func(s *api.InstanceStatus) {
			s.Bounce.State, s.Bounce.Why = "unknown", "list apps of web.main: connection refused"
		}, false},
		"nobody leads": {func(s *api.InstanceStatus) { s.Bounce = nil }, false},
	} {
		s := healthy()
		s.Bounce.State, s.Bounce.Why = "failed", "create app: 422"
		tt.change(&s)
		if got := isFailed(answer{"test", []api.InstanceStatus{s}, nil}, "main", testSHA); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

func TestWaitable(t *testing.T) {
	t.Parallel()
	entries := func(e soaconfig.Entries[soaconfig.Instance]) *soaconfig.Service {
		return &soaconfig.Service{Name: "web", Clusters: []string{"c"}, Instances: map[string]soaconfig.Entries[soaconfig.Instance]{"c": e}}
	}
	sound := map[string]soaconfig.Instance{"main": {DeployGroup: "c.main"}}
	broken := map[string]soaconfig.Problems{"other": {{File: "f", Text: "want an integer"}}}
	tests := map[string]struct {
		service *soaconfig.Service
		want    string // "" for none
	}{
		"sound":                      {entries(soaconfig.Entries[soaconfig.Instance]{Valid: sound}), ""},
		"another one is broken":      {entries(soaconfig.Entries[soaconfig.Instance]{Valid: sound, Invalid: broken}), ""},
		"nobody uses it":             {entries(soaconfig.Entries[soaconfig.Instance]{}), ""},
		"only a broken one is there": {entries(soaconfig.Entries[soaconfig.Instance]{Invalid: broken}), "want an integer"},
		"the file cannot be read":    {entries(soaconfig.Entries[soaconfig.Instance]{Unreadable: soaconfig.Problems{{File: "f", Text: "is no YAML"}}}), "is no YAML"},
	}
	for name, tt := range tests {
		err := waitable(tt.service, "c.main")
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
