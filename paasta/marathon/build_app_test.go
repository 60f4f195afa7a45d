package marathon

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

var update = flag.Bool("update", false, "rewrite golden files")

// example is an instance with what soaconfig fills in.
func example() AppInput {
	return AppInput{
		Instance: soaconfig.Instance{
			Service: "example_service", Cluster: "norcal-prod", Name: "main", DeployGroup: "prod.main",
			CPUs: .1, CPUBurstAdd: 1, CFSPeriod: 100 * time.Millisecond, MemMB: 1000, DiskMB: 1024,
			Size: 3, BackoffFactor: 2, MaxLaunchDelay: 5 * time.Minute, Registrations: []string{"example_service.main"},
			Pool: "default", Net: "bridge", ContainerPort: 8888, Env: map[string]string{"FOO": "BAR"},
			Volumes:     []soaconfig.Volume{{HostPath: "/var/a/", ContainerPath: "/etc/a", Mode: "RO"}},
			HealthCheck: soaconfig.HealthCheck{Grace: time.Minute, Interval: 10 * time.Second, Timeout: 10 * time.Second, MaxFailures: 30},
			Written:     map[string]bool{"cpus": true, "mem": true, "instances": true, "env": true, "extra_volumes": true},
		},
		Namespace: &soaconfig.Namespace{Service: "example_service", Name: "main", ProxyPort: new(20028), Mode: "http", Discover: "region"},
		Deployment: Deployment{
			Image:  "services-example_service:paasta-591ae8a7b3224e3b3322370b858377dd6ef335b6",
			GitSHA: "591ae8a7b3224e3b3322370b858377dd6ef335b6",
		},
		Size: 3,
		System: sysconfig.Config{
			Cluster: "norcal-prod", DockerRegistry: "registry.example.com:443", DockercfgLocation: "file:///root/.dockercfg",
			Volumes: []sysconfig.Volume{{HostPath: "/nail/etc", ContainerPath: "/nail/etc", Mode: "RO"}}, HostnameUniqueSize: -1,
			ExpectedAgents: []map[string]string{{"region": "west"}, {"region": "east"}, {"region": "east"}},
		},
	}
}

func form(t *testing.T, in AppInput) Definition {
	t.Helper()
	f, err := BuildApp(in)
	if err != nil {
		t.Fatal(err)
	}
	return f.Definition
}

func TestFormGolden(t *testing.T) {
	t.Parallel()
	golden := func(name string, in AppInput) {
		text, err := json.MarshalIndent(form(t, in), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(text)+"\n"); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	golden("bridge", example())

	in := example()
	hard := int64(2048)
	cmd := "exec worker"
	in.Instance.Net, in.Instance.HostPort, in.Instance.Cmd = "host", 31337, &cmd
	in.Instance.Ulimits = map[string]soaconfig.Ulimit{"nofile": {Soft: 1024, Hard: &hard}, "core": {Soft: 0}}
	in.Instance.CapAdd = []string{"IPC_LOCK"}
	in.Instance.ExtraDockerArgs = map[string]string{"hostname": "h", "add-host": "a:1.2.3.4"}
	in.Instance.HealthCheck.Mode, in.Instance.HealthCheck.Cmd = "cmd", "/bin/check"
	in.Instance.ExtraConstraints = [][]string{{"rack", "UNIQUE"}}
	in.Instance.DeployBlacklist = [][]string{{"region", "east"}}
	in.Instance.DeployWhitelist = &soaconfig.Whitelist{Attribute: "region", Values: []string{"west", "north"}}
	in.Team = "team"
	in.System.HostnameUniqueSize = 5
	golden("host", in)

	in = example()
	in.Instance.Net = "overlay.A"
	golden("network", in)

	in = example()
	in.Instance.GPUs = new(1)
	in.Namespace = nil
	golden("gpus", in)
}

// These hashes are in the ids of running apps. A change here bounces every
// service of everybody: never change one, only add.
func TestConfigHashVectors(t *testing.T) {
	t.Parallel()
	cpus, mem := .25, 1024.0
	for _, tt := range []struct {
		in   HashInput
		json string
		want string
	}{
		{HashInput{Version: 1, Image: "services-web:paasta-abc"}, `{"image":"services-web:paasta-abc","version":1}`, "config832d6272"},
		{
			HashInput{Version: 1, Image: "services-web:paasta-abc", ForceBounce: "20190906T043511"},
			`{"force_bounce":"20190906T043511","image":"services-web:paasta-abc","version":1}`, "config6d0ead37",
		},
		{
			HashInput{Version: 1, Image: "i", CPUs: &cpus, MemMB: &mem, Env: map[string]string{"B": "<&>", "A": "ü"}, HealthMode: "http"},
			`{"cpus":0.25,"env":{"A":"ü","B":"<&>"},"healthcheck_mode":"http","image":"i","mem":1024,"version":1}`, "config4a534eb4",
		},
	} {
		if got := string(canonical(tt.in)); got != tt.json {
			t.Errorf("canonical JSON is\n%s, want\n%s", got, tt.json)
		}
		if got := ConfigHash(tt.in); got != tt.want {
			t.Errorf("ConfigHash(%s) = %s, want %s", tt.json, got, tt.want)
		}
	}
}

// What only scales, what the system says, and defaults of ours change no hash;
// what the owner wrote and what changes the container does.
func TestConfigHashHoldsWhatItShould(t *testing.T) {
	t.Parallel()
	was := form(t, example())
	for name, change := range map[string]func(*AppInput){
		"size":                     func(in *AppInput) { in.Size, in.Instance.Size = 9, 9 },
		"autoscaling":              func(in *AppInput) { in.Instance.MaxInstances = new(9) },
		"registry":                 func(in *AppInput) { in.System.DockerRegistry = "other" },
		"system volumes":           func(in *AppInput) { in.System.Volumes = nil },
		"credentials":              func(in *AppInput) { in.System.DockercfgLocation = "" },
		"known agents":             func(in *AppInput) { in.System.ExpectedAgents = in.System.ExpectedAgents[:2] },
		"number of regions":        func(in *AppInput) { in.System.ExpectedAgents = in.System.ExpectedAgents[:1] },
		"team":                     func(in *AppInput) { in.Team = "other" },
		"registrations":            func(in *AppInput) { in.Instance.Registrations = []string{"example_service.main", "other.main"} },
		"bounce method":            func(in *AppInput) { in.Instance.BounceMethod = "brutal" },
		"a default of ours":        func(in *AppInput) { in.Instance.DiskMB, in.Instance.ContainerPort = 4096, 9999 },
		"a default of health":      func(in *AppInput) { in.Instance.HealthCheck.MaxFailures = 6 },
		"unique hosts by the size": func(in *AppInput) { in.System.HostnameUniqueSize = 10 },
	} {
		in := example()
		change(&in)
		if got := form(t, in); got.ID != was.ID {
			t.Errorf("%s makes another app: %s, was %s", name, got.ID, was.ID)
		}
	}
	for name, change := range map[string]func(*AppInput){
		"commit":       func(in *AppInput) { in.Deployment.Image = strings.Replace(in.Deployment.Image, "591", "592", 1) },
		"force_bounce": func(in *AppInput) { in.Deployment.ForceBounce = "20260101T000000" },
		"cpus":         func(in *AppInput) { in.Instance.CPUs = .2 },
		"env":          func(in *AppInput) { in.Instance.Env = map[string]string{"FOO": "BAZ"} },
		"written disk": func(in *AppInput) { in.Instance.Written["disk"] = true },
		"volumes":      func(in *AppInput) { in.Instance.Volumes = nil },
		"health mode":  func(in *AppInput) { in.Namespace.Mode = "tcp" },
		"args":         func(in *AppInput) { in.Instance.Args = []string{"x"} },
		"constraints":  func(in *AppInput) { in.Instance.ExtraConstraints = [][]string{{"rack", "UNIQUE"}} },
	} {
		in := example()
		change(&in)
		if got := form(t, in); got.ID == was.ID {
			t.Errorf("%s makes no other app", name)
		}
	}
}

func TestSystemHashSaysStale(t *testing.T) {
	t.Parallel()
	was := form(t, example())
	app := App{ID: was.ID, Labels: was.Labels}
	in := example()
	in.System.DockerRegistry = "other"
	f, err := BuildApp(in)
	if err != nil {
		t.Fatal(err)
	}
	d, stale := f.Choose([]App{app}, false)
	if d.ID != was.ID || !stale {
		t.Errorf("without its turn: %s stale %v, want the app that runs, stale", d.ID, stale)
	}
	d, _ = f.Choose([]App{app}, true)
	if d.ID == was.ID {
		t.Error("in its turn: want another app")
	}
	fresh := App{ID: d.ID, Labels: d.Labels}
	for _, apps := range [][]App{{app, fresh}, {fresh, app}, {fresh}} {
		if again, stale := f.Choose(apps, false); again.ID != d.ID || stale {
			t.Errorf("once the fresh app is there: %s stale %v, want %s", again.ID, stale, d.ID)
		}
	}
	if d, stale := f.Choose(nil, false); d.ID != f.Definition.ID || stale {
		t.Errorf("with no app: %s stale %v", d.ID, stale)
	}
}

func TestFormFails(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*AppInput){
		"not deployed to prod.main yet":    func(in *AppInput) { in.Deployment = Deployment{} },
		`has the attribute "habitat"`:      func(in *AppInput) { in.Namespace.Discover = "habitat" },
		"no agents match its deploy_white": func(in *AppInput) { in.Instance.DeployBlacklist = [][]string{{"region", ".*"}} },
		"none of the 3 in expected_agent_": func(in *AppInput) {
			in.Instance.DeployWhitelist = &soaconfig.Whitelist{Attribute: "region", Values: []string{"north"}}
		},
		"deploy_blacklist and those of the": func(in *AppInput) {
			in.Namespace, in.System.DeployBlacklist = nil, [][]string{{"region", "west|east"}}
		},
	} {
		in := example()
		change(&in)
		if _, err := BuildApp(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Tasks are spread over regions whether a namespace says so or not, as far as
// agents are known to be in some; what follows from agents bounces nobody.
func TestFormSpreads(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*AppInput)
		want   []string // nil for no spreading
	}{
		{"by what its clients discover", func(in *AppInput) {
			in.Namespace.Discover = "habitat"
			in.System.ExpectedAgents = []map[string]string{{"habitat": "a"}, {"habitat": "b"}, {"habitat": "c"}}
		}, []string{"habitat", "GROUP_BY", "3"}},
		{"without a namespace", func(in *AppInput) { in.Namespace = nil }, []string{"region", "GROUP_BY", "2"}},
		{"without registrations", func(in *AppInput) { in.Namespace, in.Instance.Registrations = nil, nil }, []string{"region", "GROUP_BY", "2"}},
		{"over those that it may run on", func(in *AppInput) {
			in.Namespace, in.Instance.DeployWhitelist = nil, &soaconfig.Whitelist{Attribute: "region", Values: []string{"we.*"}}
		}, []string{"region", "GROUP_BY", "1"}},
		{"over those that a lookahead leaves", func(in *AppInput) {
			in.Namespace, in.Instance.DeployWhitelist = nil, &soaconfig.Whitelist{Attribute: "region", Values: []string{"(?!we).*"}}
		}, []string{"region", "GROUP_BY", "1"}},
		{"agents that are in no region", func(in *AppInput) {
			in.Namespace, in.System.ExpectedAgents = nil, []map[string]string{{"pool": "default"}}
		}, nil},
		{"no agents are known", func(in *AppInput) { in.System.ExpectedAgents = nil }, nil},
		{"it has constraints of its own", func(in *AppInput) { in.Instance.Constraints = [][]string{{"hostname", "UNIQUE"}} }, nil},
	} {
		in := example()
		tc.change(&in)
		f, err := BuildApp(in)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var got []string
		for _, c := range f.Definition.Constraints {
			if c[1] == "GROUP_BY" {
				got = c
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, f.Definition.Constraints, tc.want)
		}
		in.System.ExpectedAgents = nil
		if other, err := BuildApp(in); err != nil || other.Definition.ID != f.Definition.ID {
			t.Errorf("%s: another app without known agents: %s and %s, %v", tc.name, other.Definition.ID, f.Definition.ID, err)
		}
	}
}

func TestFormIsAFunction(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := example()
		in.Instance.Env = rapid.MapOf(rapid.StringMatching("[A-Z]{1,8}"), rapid.String()).Draw(t, "env")
		in.Instance.ExtraDockerArgs = rapid.MapOf(rapid.StringMatching("[a-z]{1,8}"), rapid.String()).Draw(t, "docker args")
		a, err := BuildApp(in)
		if err != nil {
			t.Fatal(err)
		}
		b, err := BuildApp(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("formed twice:\n%s", diff)
		}
	})
}
