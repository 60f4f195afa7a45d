//go:build linux

package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A daemon is one process of the playground.
type daemon struct {
	name  string
	args  []string
	after []string // daemons that have to be ready first
	ours  bool     // runs the paasta binary
	// outside: in the host's network.
	outside bool
	// before runs ahead of each start; nil for nothing.
	before func() error
	// settled runs once it is ready after a start; nil for nothing.
	settled func() error
	// ready asks once whether it is up; the error says what is missing.
	ready func(context.Context, *Namespace) error
}

// daemons lists them in the order in which they start.
func (p *Playground) daemons() []daemon {
	paasta := func(name string, after []string, ready func(context.Context, *Namespace) error, args ...string) daemon {
		return daemon{name: name, args: append([]string{p.Binary}, args...), after: after, ours: true, ready: ready}
	}
	forwarder := paasta("forwarder", []string{"zookeeper"}, p.forwards, "playground", "forward", "--dir", p.Dir)
	forwarder.outside = true
	// No account of the host may be there before the ACLs are.
	forwarder.before = p.restrictZooKeeper
	return []daemon{
		{
			name: "zookeeper",
			args: []string{
				// The first of the logging libraries in the class path is the one
				// that is used: this one writes to stderr.
				"java", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
				"-cp", strings.Join([]string{zooKeeperJar, filepath.Join(filepath.Dir(zooKeeperJar), "slf4j-simple.jar"), filepath.Dir(zooKeeperJar) + "/*"}, ":"),
				"org.apache.zookeeper.server.quorum.QuorumPeerMain", p.path("zookeeper", "zoo.cfg"),
			},
			settled: p.restrictZooKeeper, // whatever became of its data
			ready:   func(ctx context.Context, n *Namespace) error { return ruok(ctx, n, p.at(PortZooKeeper)) },
		},
		{
			name:  "registry",
			args:  []string{"docker-registry", "serve", p.path("registry", "config.yaml")},
			ready: answers("http://" + p.Registry() + "/v2/"),
		},
		{
			name: "dockerd",
			args: []string{
				"dockerd", "--live-restore",
				"--data-root", p.path("docker"), "--exec-root", p.runtime("docker"),
				"--host", p.DockerHost(), "--pidfile", p.runtime("dockerd.pid"),
				"--config-file", p.path("dockerd.json"), "--cgroup-parent", "/" + p.Name,
			},
			before:  p.beforeDocker,
			settled: p.dropKept,
			ready:   func(ctx context.Context, _ *Namespace) error { return pingDocker(ctx, p.runtime("docker.sock")) },
		},
		paasta("marathon", []string{"dockerd"}, answers("http://"+p.at(PortMarathon)+"/ping"),
			"marathon", "--listen", p.at(PortMarathon), "--state-dir", p.path("marathon"),
			"--agents-config", p.path("agents.json"), "--docker-host", p.DockerHost(), "--token-file", p.tokenFile()),
		paasta("smartstack", []string{"zookeeper"}, p.balances, "smartstack"),
		paasta("api", []string{"zookeeper"}, answers("http://"+p.at(PortAPI)+"/healthz"), "api"),
		paasta("deployd", []string{"zookeeper", "marathon"}, answers("http://127.0.0.1:5055/healthz"), "deployd"),
		forwarder,
	}
}

const zooKeeperJar = "/usr/share/java/zookeeper.jar"

// needed are the programs of a playground, and Debian's packages of them.
var needed = []struct{ program, pkg string }{
	{"haproxy", "haproxy"},
	{"java", "default-jre-headless"},
	{zooKeeperJar, "zookeeper"},
	{"dockerd", "docker.io"},
	{"docker", "docker-cli"},
	{"docker-registry", "docker-registry"},
	{"ip", "iproute2"},
	{"iptables", "iptables"},
	{"nsenter", "util-linux"},
	{"git", "git"},
}

// missing lists the programs that a playground needs and this machine lacks, and
// their packages.
func missing() (programs, packages []string) {
	for _, n := range needed {
		_, err := exec.LookPath(n.program)
		if n.program == zooKeeperJar {
			_, err = os.Stat(zooKeeperJar)
		}
		if err == nil {
			continue
		}
		programs = append(programs, n.program)
		if n.program == "docker" && slices.Contains(packages, "docker.io") {
			continue // it brings docker-cli along, which before Debian 13 there is not
		}
		packages = append(packages, n.pkg)
	}
	return programs, packages
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// start starts d, in a session of its own, so that it outlives whoever started
// it, and writes its pid file. The caller waits for the command.
func (p *Playground) start(d daemon) (*exec.Cmd, process, error) {
	if d.before != nil {
		if err := d.before(); err != nil {
			return nil, process{}, err
		}
	}
	log, err := os.OpenFile(p.logFile(d.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, process{}, err
	}
	defer log.Close()
	args := d.args
	if !d.outside {
		// Not "ip netns exec", which would hide the cgroups from Docker.
		args = append([]string{"nsenter", "--net=" + filepath.Join(namespaces, p.Name), "--"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = p.Dir
	cmd.Env = p.EnvironmentOver()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, process{}, err
	}
	proc, err := running(cmd.Process.Pid)
	if err != nil {
		return cmd, process{PID: cmd.Process.Pid}, nil // dead already; the caller will see
	}
	proc.Started = time.Now()
	if d.ours {
		proc.Build = buildOf(p.Binary)
	}
	return cmd, proc, p.writePID(d.name, proc)
}

func (p *Playground) logFile(name string) string { return p.path("logs", name+".log") }

// tail returns the last lines of a daemon's log, "" when there is none.
func (p *Playground) tail(name string, lines int) string {
	f, err := os.Open(p.logFile(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 32 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// answers returns a question that is answered once a GET inside says 200.
func answers(url string) func(context.Context, *Namespace) error {
	return func(ctx context.Context, n *Namespace) error {
		t := &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}
		return get(ctx, t, url)
	}
}

// balances tells whether the agent is well and, unless there is nothing to
// serve, its HAProxy too. The agent alone is well before it has read what there
// is to serve.
func (p *Playground) balances(ctx context.Context, n *Namespace) error {
	if err := answers("http://127.0.0.1:3213/healthz")(ctx, n); err != nil {
		return err
	}
	open, err := p.Forwards()
	if err != nil || len(open) <= len(p.fixedForwards()) {
		return err
	}
	return answers("http://127.0.0.1:3212/;csv")(ctx, n)
}

func get(ctx context.Context, t *http.Transport, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // only for the message
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

func pingDocker(ctx context.Context, socket string) error {
	return get(ctx, &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}, "http://docker/_ping")
}

// ruok asks ZooKeeper how it is.
func ruok(ctx context.Context, n *Namespace, address string) error {
	conn, err := n.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "ruok"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && string(answer) != "imok" {
		err = fmt.Errorf("zookeeper at %s answered %q", address, answer)
	}
	return err
}
