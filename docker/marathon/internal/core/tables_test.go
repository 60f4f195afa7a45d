package core_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// The worked examples of how Marathon bounds a rolling replacement.
func TestPlanRoll(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		n            int
		minHC, maxOC float64
		healthy, now int
		minHealthy   int
		maxCapacity  int
		killNow      int
	}{
		{4, 1, 1, 4, 4, 4, 8, 0},
		{10, 1, 1, 10, 10, 10, 20, 0},
		{10, .5, 0, 10, 10, 5, 10, 5},
		{4, 1, 0, 4, 4, 4, 5, 0},
		{1, 1, 0, 1, 1, 1, 2, 0},
		{3, 0, 0, 3, 3, 0, 3, 3},
		{5, .9, .1, 5, 5, 5, 6, 0},
		{2, 1, 1, 5, 5, 2, 4, 3}, // smaller at the same time
	} {
		u := definition.UpgradeStrategy{MinimumHealthCapacity: tt.minHC, MaximumOverCapacity: tt.maxOC}
		want := core.Roll{MinHealthy: tt.minHealthy, MaxCapacity: tt.maxCapacity, KillNow: tt.killNow}
		if got := core.PlanRoll(tt.n, u, tt.healthy, tt.now); got != want {
			t.Errorf("n=%d %+v healthy=%d: %+v, want %+v", tt.n, u, tt.healthy, got, want)
		}
	}
}

func TestBackOffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	a := &definition.App{BackoffSeconds: 1, BackoffFactor: 1.15, MaxLaunchDelaySeconds: 300}
	d, failures := -1.0, 0
	var first []string
	for d < 300 {
		d = core.NextDelay(d, a)
		failures++
		if len(first) < 4 {
			first = append(first, fmt.Sprintf("%.2f", d))
		}
	}
	if diff := cmp.Diff([]string{"1.00", "1.15", "1.32", "1.52"}, first); diff != "" {
		t.Errorf("first delays (-want +got):\n%s", diff)
	}
	if failures < 41 || failures > 43 {
		t.Errorf("%d failures until the limit, want about 41", failures)
	}
	if d := core.NextDelay(-1, &definition.App{BackoffSeconds: 500, MaxLaunchDelaySeconds: 300}); math.Abs(d-300) > 1e-9 {
		t.Errorf("a first delay above the limit is %v", d)
	}
}

func parse(t *testing.T, text string) *definition.App {
	t.Helper()
	v, err := definition.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a, err := definition.Parse(v.(definition.Object), "/")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestEnv(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		app    string
		slots  []int
		prefix string
		want   map[string]string
		absent []string
	}{
		"host mode": {
			`{"id":"/prod/web","cmd":"sleep 1","portDefinitions":[{"port":10000,"name":"http"},{"port":8080}]}`,
			[]int{31001, 31002},
			"",
			map[string]string{
				"HOST": "10.0.0.7", "PORT": "31001", "PORTS": "31001,31002", "PORT0": "31001", "PORT1": "31002", "PORT_10000": "31001",
				"PORT_8080": "31002", "PORT_HTTP": "31001", "MARATHON_APP_ID": "/prod/web", "MARATHON_APP_LABELS": "",
				"MARATHON_APP_RESOURCE_MEM": "128.0", "MARATHON_APP_RESOURCE_GPUS": "0",
			},
			[]string{"MARATHON_APP_DOCKER_IMAGE"},
		},
		"bridge mode": {
			`{"id":"/b","container":{"docker":{"image":"x"},"portMappings":[{"containerPort":80,"name":"http"}]},"networks":[{"mode":"container/bridge"}]}`,
			[]int{31003},
			"",
			map[string]string{"PORT": "31003", "PORTS": "31003", "PORT0": "31003", "PORT_80": "31003", "PORT_HTTP": "31003", "MARATHON_APP_DOCKER_IMAGE": "x"},
			nil,
		},
		"no ports": {
			`{"id":"/n","cmd":"sleep 1","portDefinitions":[]}`, nil, "", map[string]string{"HOST": "10.0.0.7"}, []string{"PORT", "PORTS", "PORT0"},
		},
		"a prefix is added for everybody": {
			`{"id":"/p","cmd":"sleep 1","ports":[0]}`, []int{31004}, "MARATHON_", map[string]string{"PORT0": "31004", "MARATHON_PORT0": "31004", "MARATHON_HOST": "10.0.0.7"}, nil,
		},
		"and stands alone for PaaSTA's apps": {
			`{"id":"/p","cmd":"sleep 1","ports":[0],"labels":{"paasta_service":"p"}}`,
			[]int{31004},
			"MARATHON_",
			map[string]string{"MARATHON_PORT0": "31004", "MARATHON_APP_LABELS": "PAASTA_SERVICE", "MARATHON_APP_LABEL_PAASTA_SERVICE": "p"},
			[]string{"PORT0", "HOST"},
		},
		"the app has the last word": {
			`{"id":"/p","cmd":"sleep 1","env":{"PORT0":"mine"}}`, []int{31004}, "", map[string]string{"PORT0": "mine", "PORT": "31004"}, nil,
		},
		"labels become names": {
			`{"id":"/l","cmd":"sleep 1","labels":{"a-b.c":"1","Z":"2"}}`,
			[]int{1},
			"",
			map[string]string{"MARATHON_APP_LABELS": "Z A_B_C", "MARATHON_APP_LABEL_A_B_C": "1", "MARATHON_APP_LABEL_Z": "2"},
			nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := core.Env(&core.Task{ID: "x.1", Host: "10.0.0.7", Slots: tt.slots, App: parse(t, tt.app)}, tt.prefix)
			for k, v := range tt.want {
				if got[k] != v {
					t.Errorf("%s=%q, want %q", k, got[k], v)
				}
			}
			for _, k := range tt.absent {
				if v, ok := got[k]; ok {
					t.Errorf("%s=%q, want none", k, v)
				}
			}
		})
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	app := func(text string) *definition.App { return parse(t, text) }
	a1, a2, a3 := app(`{"id":"/a","cmd":"one"}`), app(`{"id":"/a","cmd":"two"}`), app(`{"id":"/a","cmd":"one","instances":3}`)
	a0 := app(`{"id":"/a","cmd":"two","instances":0}`)
	web := app(`{"id":"/web","cmd":"web","dependencies":["/a"]}`)
	type apps = map[string]*definition.App
	tests := map[string]struct {
		old, target apps
		restart     bool
		want        string
		groups      map[string][]string
	}{
		"a new app":             {apps{"/a": nil}, apps{"/a": a1}, false, "[[StartApplication /a] [ScaleApplication /a]]", nil},
		"nothing":               {apps{"/a": a1}, apps{"/a": a1}, false, "[]", nil},
		"a restart":             {apps{"/a": a1}, apps{"/a": a1}, true, "[[RestartApplication /a]]", nil},
		"a change":              {apps{"/a": a1}, apps{"/a": a2}, false, "[[RestartApplication /a]]", nil},
		"only the size":         {apps{"/a": a1}, apps{"/a": a3}, false, "[[ScaleApplication /a]]", nil},
		"a change to nothing":   {apps{"/a": a1}, apps{"/a": a0}, false, "[[ScaleApplication /a]]", nil},
		"a deletion":            {apps{"/a": a1}, apps{"/a": nil}, false, "[[StopApplication /a]]", nil},
		"dependencies go first": {apps{"/a": a1, "/web": nil}, apps{"/a": a2, "/web": web}, false, "[[StartApplication /web] [RestartApplication /a] [ScaleApplication /web]]", nil},
		"groups depend, too":    {apps{"/a": a1, "/b/c/x": nil}, apps{"/a": a2, "/b/c/x": app(`{"id":"/b/c/x","cmd":"run"}`)}, false, "[[StartApplication /b/c/x] [RestartApplication /a] [ScaleApplication /b/c/x]]", map[string][]string{"/b": {"/a"}, "/b/c": nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := apps{}
			for id, a := range tt.target {
				if a != nil {
					all[id] = a
				}
			}
			got := []string{}
			for _, s := range core.Plan(tt.old, tt.target, map[string]bool{"/a": tt.restart}, core.Root{Apps: all, Groups: tt.groups}) {
				text := ""
				for _, a := range s.Actions {
					text += a.Action + " " + a.App
				}
				got = append(got, "["+text+"]")
			}
			if fmt.Sprint(got) != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
