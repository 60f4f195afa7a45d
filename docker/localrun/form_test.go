package localrun

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

func request() Request {
	return Request{
		Instance: soaconfig.Instance{
			Service: "web", Cluster: "test", Name: "main", DeployGroup: "test.main",
			CPUs: .1, CPUBurstAdd: 1, CFSPeriod: 100 * time.Millisecond, MemMB: 64, DiskMB: 1024, Size: 3,
			Registrations: []string{"web.main"}, Net: "bridge", ContainerPort: 8888,
			Env:             map[string]string{"LANGUAGES": "en", "MARATHON_HOST": "mine", "KEY": "SECRET(key)"},
			Volumes:         []soaconfig.Volume{{HostPath: "/var/a/", ContainerPath: "/a", Mode: "RO"}},
			HealthCheck:     soaconfig.HealthCheck{Grace: time.Minute, Interval: 10 * time.Second, Timeout: 10 * time.Second, MaxFailures: 30},
			ExtraDockerArgs: map[string]string{"sysctl": "net.core.somaxconn=1024"},
			Pool:            "default",
		},
		Namespace: &soaconfig.Namespace{Service: "web", Name: "main", Mode: "http", HealthcheckURI: "/up"},
		System: sysconfig.Config{
			Cluster: "test", DockerRegistry: "reg:443", DockercfgLocation: "file:///root/.dockercfg",
			DeployWhitelist: []any{"nonsense"}, Volumes: []sysconfig.Volume{{HostPath: "/etc/s", ContainerPath: "/etc/s", Mode: "RO"}},
		},
		Team: "a-team", Image: "paasta-local-run-web-kim", SHA: "591ae8a7b3224e3b3322370b858377dd6ef335b6",
		User: "kim", ID: "0a1b", Host: "laptop", Port: 39495, Secrets: map[string]string{"key": "hush"},
	}
}

func TestForm(t *testing.T) {
	t.Parallel()
	s, err := Form(request())
	if err != nil {
		t.Fatal(err)
	}
	if s.Check == nil || s.Check.Path != "/up" || s.Check.Protocol != "MESOS_HTTP" {
		t.Errorf("health check %+v, want the namespace's", s.Check)
	}
	for key, want := range map[string]string{
		"PAASTA_SERVICE": "web", "PAASTA_INSTANCE": "main", "PAASTA_CLUSTER": "test", "PAASTA_DEPLOY_GROUP": "test.main",
		"PAASTA_DOCKER_IMAGE": "paasta-local-run-web-kim", "PAASTA_MONITORING_TEAM": "a-team", "PAASTA_LAUNCHED_BY": "kim@laptop",
		"LANGUAGES": "en", "HOST": "laptop", "MESOS_SANDBOX": "/mnt/mesos/sandbox", "MESOS_TASK_ID": "0a1b",
		"MARATHON_PORT": "39495", "MARATHON_PORT0": "39495", "MARATHON_PORTS": "39495", "MARATHON_PORT_8888": "39495",
		"MARATHON_APP_RESOURCE_CPUS": "0.1", "MARATHON_APP_RESOURCE_MEM": "64.0", "MARATHON_APP_DOCKER_IMAGE": "paasta-local-run-web-kim",
		"MARATHON_HOST": "mine", // what the owner wrote wins
		"KEY":           "SECRET(key)",
	} {
		if s.Env[key] != want {
			t.Errorf("%s=%q, want %q", key, s.Env[key], want)
		}
	}
	want := "docker run --memory=64m --memory-swap=128m --cpu-period=100000 --cpu-quota=110000 " +
		"--label=paasta_service=web --label=paasta_instance=main --sysctl=net.core.somaxconn=1024 --init=true " +
		"--cap-drop=SETPCAP --cap-drop=MKNOD --cap-drop=AUDIT_WRITE --cap-drop=CHOWN --cap-drop=NET_RAW --cap-drop=DAC_OVERRIDE " +
		"--cap-drop=FOWNER --cap-drop=FSETID --cap-drop=KILL --cap-drop=SETGID --cap-drop=SETUID --cap-drop=NET_BIND_SERVICE " +
		"--cap-drop=SYS_CHROOT --cap-drop=SETFCAP --label=paasta.localrun=0a1b --publish=39495:8888 --name=paasta_local_run_kim_0a1b " +
		"--volume=/var/a:/a:ro --volume=/etc/s:/etc/s:ro --detach=true paasta-local-run-web-kim"
	var words []string
	command := s.Command()
	for i := 0; i < len(command); i++ {
		if command[i] == "--env" {
			i++
			continue
		}
		words = append(words, command[i])
	}
	if diff := cmp.Diff(strings.Fields(want), words); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if text := strings.Join(command, " "); strings.Contains(text, "hush") || !strings.Contains(text, "--env KEY ") {
		t.Errorf("the command shows a secret, or lacks its variable: %s", text)
	}
}

// What runs here is what production runs: the definition's parts are all there.
func TestFormIsProduction(t *testing.T) {
	t.Parallel()
	r := request()
	r.System.DeployWhitelist = nil
	formed, err := marathon.BuildApp(marathon.AppInput{
		Instance: r.Instance, Namespace: r.Namespace, Team: r.Team, Size: 1, System: r.System,
		Deployment: marathon.Deployment{Image: r.Image, GitSHA: r.SHA},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Form(r)
	if err != nil {
		t.Fatal(err)
	}
	d := formed.Definition
	if diff := cmp.Diff(d.Container.Docker.Parameters, s.Options); diff != "" {
		t.Errorf("options (-production +here):\n%s", diff)
	}
	if diff := cmp.Diff(d.Container.Volumes, s.Volumes); diff != "" {
		t.Errorf("volumes (-production +here):\n%s", diff)
	}
	if diff := cmp.Diff(&d.HealthChecks[0], s.Check); diff != "" {
		t.Errorf("health check (-production +here):\n%s", diff)
	}
	for key, value := range d.Env {
		if s.Env[key] != value {
			t.Errorf("%s is %q in production and %q here", key, value, s.Env[key])
		}
	}
}

func TestFormOfCommands(t *testing.T) {
	t.Parallel()
	serve, try := "exec /serve", "env"
	tests := map[string]struct {
		change          func(*Request)
		entrypoint, cmd string
	}{
		"the image's own":       {func(*Request) {}, "", ""},
		"args":                  {func(r *Request) { r.Instance.Args = []string{"a", "b"} }, "", "a|b"},
		"cmd":                   {func(r *Request) { r.Instance.Cmd = &serve }, "/bin/sh", "-c|exec /serve"},
		"another cmd":           {func(r *Request) { r.Instance.Cmd, r.Cmd = &serve, &try }, "/bin/sh", "-c|env"},
		"a shell":               {func(r *Request) { r.Shell = true }, "/bin/sh", "-c|if command -v bash >/dev/null; then exec bash; else exec sh; fi"},
		"a cmd with a terminal": {func(r *Request) { r.Shell, r.Cmd = true, &try }, "/bin/sh", "-c|env"},
	}
	for name, tt := range tests {
		r := request()
		tt.change(&r)
		s, err := Form(r)
		if err != nil || strings.Join(s.Entrypoint, "|") != tt.entrypoint || strings.Join(s.Cmd, "|") != tt.cmd {
			t.Errorf("%s: %v %v, %v", name, s.Entrypoint, s.Cmd, err)
		}
		if s.TTY != r.Shell {
			t.Errorf("%s: terminal %t", name, s.TTY)
		}
	}
}

// No text of soa-configs becomes an option of its own: it is part of one, or stands
// behind the image.
func TestFormAddsNoOption(t *testing.T) {
	t.Parallel()
	const evil = "--privileged"
	r := request()
	r.Instance.Args = []string{evil}
	r.Instance.Env["EVIL"] = evil // goes by its name alone
	r.Instance.ExtraDockerArgs = map[string]string{"hostname": evil, "label": evil}
	r.Instance.Pool, r.Team = evil, evil
	s, err := Form(r)
	if err != nil {
		t.Fatal(err)
	}
	command := s.Command()
	if i := slices.Index(command, evil); i != len(command)-1 || command[i-1] != r.Image {
		t.Errorf("%q", command)
	}
	for _, want := range []string{"--hostname=" + evil, "--label=" + evil} {
		if !slices.Contains(command, want) {
			t.Errorf("%q lacks %q", command, want)
		}
	}
}

func TestFormOfNetworks(t *testing.T) {
	t.Parallel()
	for net, want := range map[string]string{"bridge": "--publish=39495:8888", "host": "--net=host", "none": "--net=none", "mine": "--net=mine"} {
		r := request()
		r.Instance.Net = net
		s, err := Form(r)
		if err != nil || !slices.Contains(s.Command(), want) {
			t.Errorf("net: %s: %v, %v", net, s.Command(), err)
		}
	}
	r := request()
	r.Instance.Net = "host"
	if s, _ := Form(r); s.Env["MARATHON_PORT0"] != "39495" || s.Container != 39495 {
		t.Errorf("on the host's network the port is %d, PORT0 %s", s.Container, s.Env["MARATHON_PORT0"])
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	r := request()
	r.Secrets = nil
	r.Instance.Env["OTHER"] = "SHARED_SECRET(other)"
	var missing *MissingSecretsError
	if _, err := Form(r); !errors.As(err, &missing) || strings.Join(missing.Variables, " ") != "KEY=SECRET(key) OTHER=SHARED_SECRET(other)" {
		t.Errorf("without secrets: %v", err)
	}
	r.Secrets = map[string]string{"SHARED_SECRET(other)": "x"}
	r.SkipSecrets = true
	s, err := Form(r)
	if _, there := s.Env["KEY"]; err != nil || there || s.secret["OTHER"] != "x" || !slices.Equal(s.Left, []string{"KEY"}) {
		t.Errorf("one given, one skipped: %v, left %v, %v", s.Env, s.Left, err)
	}
}

func TestAdhoc(t *testing.T) {
	t.Parallel()
	r := request()
	r.Instance, r.Namespace, r.Shell = Adhoc("web", "test"), nil, true
	s, err := Form(r)
	if err != nil || s.Check != nil || s.Memory != "10240m" || !slices.Contains(s.Command(), "--tty=true") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestPreferredPort(t *testing.T) {
	t.Parallel()
	if got := PreferredPort("web", "kim"); got != 39495 { // by PaaSTA's own formula
		t.Errorf("port %d, want 39495", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		service, user := rapid.String().Draw(t, "service"), rapid.String().Draw(t, "user")
		if p := PreferredPort(service, user); p < 33000 || p >= 58000 {
			t.Fatalf("port %d", p)
		}
		r := request()
		r.User, r.Instance.MemMB = user, rapid.Float64Range(1, 1e5).Draw(t, "mem")
		s, err := Form(r)
		if err != nil || strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "" {
			t.Fatalf("%q, %v", s.Name, err)
		}
	})
}
