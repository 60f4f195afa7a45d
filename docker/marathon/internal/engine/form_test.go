package engine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

func launch(t *testing.T, text string, slots ...int) core.Launch {
	t.Helper()
	v, err := definition.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a, err := definition.Parse(v.(definition.Object), "/")
	if err != nil {
		t.Fatal(err)
	}
	return core.Launch{
		Task: core.Task{ID: "web.1-2", AppID: a.ID, App: a, Slots: slots, Address: "10.77.1.1", Version: "v"},
		Env:  map[string]string{"A": "b"},
	}
}

// What PaaSTA asks for reaches the Engine.
func TestPaaSTAsParameters(t *testing.T) {
	t.Parallel()
	l := launch(t, `{"id":"/web","cpus":0.1,"mem":1000,"container":{"type":"DOCKER","docker":{"image":"i","network":"BRIDGE",
		"portMappings":[{"containerPort":8888,"hostPort":0,"protocol":"udp,tcp"}],"parameters":[
		{"key":"memory-swap","value":"1064m"},{"key":"cpu-period","value":"100000"},{"key":"cpu-quota","value":"110000"},
		{"key":"label","value":"paasta_service=web"},{"key":"label","value":"paasta_instance=main"},{"key":"ulimit","value":"nofile=1024:2048"},
		{"key":"cap-add","value":"IPC_LOCK"},{"key":"init","value":"true"},{"key":"cap-drop","value":"SETPCAP"},{"key":"cap-drop","value":"MKNOD"}]},
		"volumes":[{"containerPath":"/etc/a","hostPath":"/var/a","mode":"RO"},{"containerPath":"rel","hostPath":"/b","mode":"RW"}]}}`, 31007)
	c, h, err := form(l, "owner", "/sandbox")
	if err != nil {
		t.Fatal(err)
	}
	if h.Memory != 1000<<20 || h.MemorySwap != 1064<<20 || h.CPUPeriod != 100000 || h.CPUQuota != 110000 || h.CPUShares != 102 ||
		h.Init == nil || !*h.Init || len(h.Ulimits) != 1 || h.Ulimits[0].Hard != 2048 || h.NetworkMode != "bridge" {
		t.Errorf("%+v", h)
	}
	if diff := cmp.Diff([]string{"SETPCAP", "MKNOD"}, []string(h.CapDrop)); diff != "" {
		t.Errorf("cap-drop (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/sandbox:/mnt/mesos/sandbox", "/var/a:/etc/a:ro", "/b:/mnt/mesos/sandbox/rel:rw"}, h.Binds); diff != "" {
		t.Errorf("binds (-want +got):\n%s", diff)
	}
	if c.Labels["paasta_service"] != "web" || c.Labels["paasta_instance"] != "main" || c.Labels[taskLabel] != "web.1-2" || c.Labels[ownerLabel] != "owner" {
		t.Errorf("labels %v", c.Labels)
	}
	for _, port := range []string{"8888/udp", "8888/tcp"} {
		found := false
		for p, b := range h.PortBindings {
			found = found || string(p) == port && len(b) == 1 && b[0].HostIP == "10.77.1.1" && b[0].HostPort == "31007"
		}
		if !found {
			t.Errorf("%s is not published: %v", port, h.PortBindings)
		}
	}
}

func TestCommandAndArgs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ app, entrypoint, cmd string }{
		"a cmd goes to a shell":       {`{"id":"/a","cmd":"echo x","container":{"docker":{"image":"i"}}}`, "/bin/sh", "-c|echo x"},
		"args go to the entrypoint":   {`{"id":"/a","args":["x","y"],"container":{"docker":{"image":"i"}}}`, "", "x|y"},
		"nothing is the image's own":  {`{"id":"/a","container":{"docker":{"image":"i"}}}`, "", ""},
		"an entrypoint by parameter":  {`{"id":"/a","container":{"docker":{"image":"i","parameters":[{"key":"entrypoint","value":"/e"}]}}}`, "/e", ""},
		"a cmd's shell has the right": {`{"id":"/a","cmd":"echo x","container":{"docker":{"image":"i","parameters":[{"key":"entrypoint","value":"/e"}]}}}`, "/bin/sh", "-c|echo x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _, err := form(launch(t, tt.app, 31000), "o", "/s")
			if err != nil || strings.Join(c.Entrypoint, "|") != tt.entrypoint || strings.Join(c.Cmd, "|") != tt.cmd {
				t.Errorf("%v %v, %v", c.Entrypoint, c.Cmd, err)
			}
		})
	}
}

// Every option is read, or refused with a reason; none is passed over.
func TestOptions(t *testing.T) {
	t.Parallel()
	for option, good := range map[string]bool{
		"add-host=a:1.2.3.4": true, "cpus=1.5": true, "cpus=x": false, "device=/dev/fuse": true, "device=/dev/a:/dev/b:r": true,
		"dns=8.8.8.8": true, "env=A=b": true, "e=A=b": true, "expose=80/tcp": true, "expose=x": false, "hostname=h": true, "init=maybe": false,
		"label=MESOS_TASK_ID=x": false, "log-driver=none": true, "log-opt=max-size=1m": true, "log-opt=x": false, "memory=1g": true,
		"memory=lots": false, "memory-swap=-1": true, "memory-swappiness=101": false, "mount=type=bind,src=/a,dst=/b,ro": true,
		"mount=type=bind": false, "name=x": false, "net=host": true, "oom-score-adj=5": true, "pids-limit=100": true, "p=80:80": false,
		"read-only=true": true, "restart=always": false, "rm=true": false, "security-opt=no-new-privileges": true, "shm-size=64m": true,
		"stop-signal=SIGINT": true, "sysctl=net.core.somaxconn=1024": true, "tmpfs=/run:size=1m": true, "tty=true": true,
		"ulimit=nofile=1": true, "ulimit=x": false, "user=nobody": true, "volume=/a:/b": true, "w=/x": true, "frobnicate=1": false,
	} {
		key, value, _ := strings.Cut(option, "=")
		a := &definition.App{Container: &definition.Container{Docker: &definition.Docker{
			Image: "i", Parameters: []definition.Parameter{{Key: key, Value: value}},
		}}}
		problems := Check(a)
		if (len(problems) == 0) != good {
			t.Errorf("--%s: %v", option, problems)
		}
	}
}
