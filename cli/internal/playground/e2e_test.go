//go:build linux

package playground_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/cli/internal/demo"
	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/examples"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/load"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/zk"
)

// need asks for everything that a playground is made of.
func need(t testing.TB) {
	t.Helper()
	paastatest.NeedRoot(t)
	for _, program := range []string{"haproxy", "java", "dockerd", "docker", "docker-registry", "ip", "iptables", "nsenter", "git", "make", "curl"} {
		paastatest.Need(t, program)
	}
}

// buildPaasta builds the binary whose daemons the playground runs.
func buildPaasta(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "paasta")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/gopaasta/paasta/paasta/cmd/paasta")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build paasta: %v\n%s", err, out)
	}
	return binary
}

// A session is a person at a shell in front of a playground.
type session struct {
	t      testing.TB
	dir    string // of the playground
	paasta string
	env    []string
}

// start starts a playground that is removed with the test.
func start(t testing.TB) *session {
	t.Helper()
	s := &session{t: t, dir: filepath.Join(t.TempDir(), "playground"), paasta: buildPaasta(t), env: os.Environ()}
	t.Cleanup(s.remove)
	s.run("", "playground", "up", "--dir", s.dir)
	p, err := playground.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.env = p.EnvironmentOver()
	return s
}

// remove removes the playground, and sees that nothing of it is left.
func (s *session) remove() {
	p, err := playground.Open(s.dir)
	if err != nil {
		if !s.t.Failed() {
			s.t.Error(err)
		}
		return
	}
	if s.t.Failed() {
		for name, file := range p.Logs() {
			text, _ := os.ReadFile(file)
			lines := strings.Split(string(text), "\n")
			s.t.Logf("the end of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	}
	if out, err := exec.Command(s.paasta, "playground", "down", "--dir", s.dir).CombinedOutput(); err != nil {
		s.t.Errorf("playground down: %v\n%s", err, out)
	}
	for _, path := range []string{s.dir, "/run/" + p.Name, "/run/netns/" + p.Name} {
		if _, err := os.Lstat(path); err == nil {
			s.t.Errorf("%s is left", path)
		}
	}
	for _, args := range [][]string{{"ip", "link"}, {"iptables-save"}, {"cat", "/proc/self/mountinfo"}, {"ps", "-eo", "args"}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			s.t.Errorf("%s: %v\n%s", args[0], err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, p.Name) || strings.Contains(line, s.dir) {
				s.t.Errorf("%s still shows %s", args[0], line)
			}
		}
	}
}

// run runs paasta in a directory and returns what it said on both outputs.
func (s *session) run(dir string, args ...string) string {
	s.t.Helper()
	out, err := s.try(s.t.Context(), dir, args...)
	if err != nil {
		s.t.Fatalf("paasta %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *session) try(ctx context.Context, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.paasta, args...)
	cmd.Dir, cmd.Env = dir, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestDemo runs what "make demo" runs, twice, the second time while the first
// one's services run.
func TestDemo(t *testing.T) {
	need(t)
	if !paastatest.InNamespace(t) {
		return
	}
	home := t.TempDir()
	s := &session{t: t, dir: filepath.Join(home, ".playground"), paasta: buildPaasta(t), env: os.Environ()}
	t.Cleanup(s.remove)
	for range 2 {
		out := s.run("", "demo", "--dir", s.dir)
		t.Log(out)
		if !regexp.MustCompile(`(?m)^requests failed +0$`).MatchString(out) {
			t.Error("the demo does not say that no request failed")
		}
	}
	// What the versions before said, and how they ended.
	s.shell(home, `. .playground/env
		paasta logs -s `+demo.Service+` -C app_output,marathon >logs
		grep "TASK_KILLED on .*: Container exited with status" logs
		task="$(sed -n 's/.*\[marathon\].*\[main \([^]]*\)\].*TASK_KILLED.*/\1/p' logs | head -n 1)"
		grep "\[std.*\[main $task\]" logs`)
	// The pages that go on from there, each in a shell of its own.
	for _, page := range []string{"local-run.md", "images.md"} {
		s.shell(home, strings.Join(commandsOf(t, "how-to/"+page), ""))
	}
}

// commandsOf are the commands of a page of docs, block by block.
func commandsOf(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, b[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has no commands", page)
	}
	return all
}

// shell runs commands in a new shell, as a person would who has built paasta; the
// first that fails ends it.
func (s *session) shell(dir, commands string, env ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-x")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader("set -eu\n"+commands)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		// Of a playground that whoever runs the tests works in.
		return strings.HasPrefix(kv, "PAASTA_") || strings.HasPrefix(kv, "DOCKER_")
	})
	cmd.Env = append(append(cmd.Env, "PATH="+filepath.Dir(s.paasta)+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	s.t.Logf("%s", out)
}

// TestSideBySide starts two playgrounds, starts one of them once more, kills all
// of it, and sees what is said when a port is taken.
func TestSideBySide(t *testing.T) {
	need(t)
	if !paastatest.InNamespace(t) {
		return
	}
	first, second := start(t), start(t)
	addresses := map[string]bool{}
	for _, s := range []*session{first, second} {
		p, err := playground.Open(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		addresses[p.Address] = true
		if status := p.Status(t.Context()); !status.Ready {
			t.Errorf("not ready: %+v", status)
		}
		for _, path := range []string{":5054/healthz", ":8080/ping", ":5000/v2/"} {
			if out, err := exec.Command("curl", "--fail", "--silent", "--show-error", "http://"+p.Address+path).CombinedOutput(); err != nil {
				t.Errorf("http://%s%s: %v\n%s", p.Address, path, err, out)
			}
		}
		if out := s.run("", "playground", "exec", "--dir", s.dir, "--", "docker", "info", "--format", "{{.DockerRootDir}}"); strings.TrimSpace(out) != filepath.Join(s.dir, "docker") {
			t.Errorf("docker inside %s has its data in %s", s.dir, out)
		}
	}
	if len(addresses) != 2 {
		t.Errorf("addresses %v, want two", addresses)
	}

	for _, s := range []*session{first, second} {
		s.strangers()
	}

	// Once more changes nothing.
	p, err := playground.Open(first.dir)
	if err != nil {
		t.Fatal(err)
	}
	before := p.Status(t.Context())
	first.run("", "playground", "up", "--dir", first.dir)
	for i, d := range p.Status(t.Context()).Daemons {
		if d.PID != before.Daemons[i].PID {
			t.Errorf("%s was process %d and is %d after a second up", d.Name, before.Daemons[i].PID, d.PID)
		}
	}

	// The death of the supervisor kills nobody, and up replaces it.
	if err := syscall.Kill(first.pid(p, "supervisor"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.run("", "playground", "up", "--dir", first.dir)
	for i, d := range p.Status(t.Context()).Daemons {
		if same := d.PID == before.Daemons[i].PID; same == (d.Name == "supervisor") {
			t.Errorf("%s was process %d and is %d after its supervisor was killed", d.Name, before.Daemons[i].PID, d.PID)
		}
	}

	// A port that somebody else has is named with its owner, and nothing is left.
	third := filepath.Join(t.TempDir(), "third")
	l, err := net.Listen("tcp", "127.0.0.3:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := first.try(t.Context(), "", "playground", "up", "--dir", third)
	if want := fmt.Sprintf("port 8080 of 127.0.0.3 is taken by process %d ", os.Getpid()); err == nil || !strings.Contains(out, want) {
		t.Errorf("with a taken port: %v\n%s\nwant %q", err, out, want)
	}
	if _, err := os.Stat(third); err == nil {
		t.Errorf("%s is left", third)
	}

	// What was killed with -9, all of it, is removed like what was not (start
	// has registered that).
	for _, d := range p.Status(t.Context()).Daemons {
		if d.PID != 0 {
			if err := syscall.Kill(d.PID, syscall.SIGKILL); err != nil {
				t.Errorf("kill %s: %v", d.Name, err)
			}
		}
	}
}

// TestTutorial does what docs/tutorial.md says, word for word, and, in the same
// shell, before the playground is removed, what test-dependencies.md says.
func TestTutorial(t *testing.T) {
	need(t)
	paastatest.Need(t, "redis-server")
	if !paastatest.InNamespace(t) {
		return
	}
	tutorial, howTo := commandsOf(t, "tutorial.md"), commandsOf(t, "how-to/test-dependencies.md")
	source, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	start(t) // another one, which has 127.0.0.1
	home := t.TempDir()
	s := &session{t: t, dir: filepath.Join(home, ".playground"), paasta: buildPaasta(t)}
	t.Cleanup(func() {
		if _, err := os.Stat(s.dir); err == nil {
			s.remove() // the script ended early
		}
	})
	last := len(tutorial) - 1 // which removes it
	s.shell(home, strings.Join(tutorial[:last], "")+
		"(cd "+source+"\n"+howTo[0]+"[ -z \"${DOCKER_HOST-}\" ]; export DOCKER_HOST=$MACHINE\n"+strings.Join(howTo[1:], "")+")\n"+
		tutorial[last], "MACHINE="+dockertest.Start(t).Host, "TMPDIR="+t.TempDir())
}

// TestKillEveryDaemon kills each daemon, with -9, in the middle of a second
// deploy under load. The new version runs in the end, and no request is lost.
func TestKillEveryDaemon(t *testing.T) {
	need(t)
	if !paastatest.InNamespace(t) {
		return
	}
	s := start(t)
	p, err := playground.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(s.dir, "repos", demo.Service)
	remote := filepath.Join(p.GitDir(), demo.Service+".git")
	if err := examples.Write(demo.Service, repo); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=T", "-c", "user.email=t@localhost"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet", "--bare", "--initial-branch=main", remote)
	git("init", "--quiet", "--initial-branch=main")
	service := filepath.Join(p.SoaDir(), demo.Service, "service.yaml")
	text, err := os.ReadFile(service)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(service, append(text, "git_url: "+remote+"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	release := func() string {
		t.Helper()
		git("add", "--all")
		git("commit", "--quiet", "--allow-empty", "-m", "another one")
		git("push", "--quiet", remote, "HEAD:main")
		sha := git("rev-parse", "HEAD")
		s.run(repo, "itest", "-s", demo.Service, "-c", sha)
		s.run(repo, "push-to-registry", "-s", demo.Service, "-c", sha)
		return sha
	}
	mark := func(sha string) (string, error) {
		return s.try(t.Context(), repo, "mark-for-deployment", "-s", demo.Service, "-l", "playground.main", "-c", sha, "--wait-for-deployment", "-t", "200")
	}
	first := release()
	if out, err := mark(first); err != nil {
		t.Fatalf("the first deploy: %v\n%s", err, out)
	}
	n, err := p.Enter()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	// The forwarder is not among what is killed, but its connections would be
	// those inside a killed process; so the load comes from inside.
	target := load.Target{Name: "inside", URL: fmt.Sprintf("http://%s:20001/", playground.Link), Dial: n.DialContext}

	for _, daemon := range []string{"deployd", "marathon", "smartstack", "api", "zookeeper", "dockerd"} {
		t.Run(daemon, func(t *testing.T) {
			sha := release()
			l := load.Start(t.Context(), load.Options{Targets: []load.Target{target}, Workers: 3, Pause: 10 * time.Millisecond})
			since := fmt.Sprintf("%d", time.Now().Unix())
			done := make(chan error, 1)
			var said string
			go func() {
				var err error
				said, err = mark(sha)
				done <- err
			}()
			// In the middle is when the first new task runs.
			inside := exec.Command(s.paasta, "playground", "exec", "--dir", s.dir, "--", "docker", "events", "--since", since, "--filter", "event=start", "--format", "{{.ID}}")
			started := firstLine(t, inside)
			select {
			case <-started:
			case err := <-done:
				t.Errorf("the deploy ended before a container started: %v\n%s", err, said)
				done <- err
			case <-time.After(2 * time.Minute):
				t.Error("no container started within two minutes")
			}
			pid := s.pid(p, daemon)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("kill %s (%d): %v", daemon, pid, err)
			}
			if err := <-done; err != nil {
				// The command itself may have been talking to what was killed.
				if out, again := s.try(t.Context(), repo, "wait-for-deployment", "-s", demo.Service, "-l", "playground.main", "-c", sha, "-t", "200"); again != nil {
					t.Errorf("the deploy: %v\n%s\nand waiting for it: %v\n%s", err, said, again, out)
				}
			}
			r := l.Stop()
			t.Logf("%s killed: %d requests, %d failed, slowest %s", daemon, r.Sent, r.Failed, r.Quantile(1))
			if r.Failed > 0 || r.Sent == 0 {
				t.Errorf("%d of %d requests failed:\n%s", r.Failed, r.Sent, strings.Join(r.Errors, "\n"))
			}
			if _, ok := r.FirstWith(sha); !ok {
				t.Errorf("no answer of %s", sha)
			}
			s.ready(t, p, daemon, pid)
		})
	}
}

// firstLine starts a command and closes the channel when it says its first line.
// The command ends with the test.
func firstLine(t *testing.T, cmd *exec.Cmd) <-chan struct{} {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if n, _ := io.ReadAtLeast(out, make([]byte, 64), 12); n > 0 {
			close(seen)
		}
		io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		cmd.Wait()
		if t.Failed() && complaints.Len() > 0 {
			t.Logf("%s: %s", cmd, complaints.String())
		}
	})
	return seen
}

// pid returns the process of a daemon.
func (s *session) pid(p *playground.Playground, daemon string) int {
	s.t.Helper()
	for _, d := range p.Status(s.t.Context()).Daemons {
		if d.Name == daemon && d.PID != 0 {
			return d.PID
		}
	}
	s.t.Fatalf("%s does not run", daemon)
	return 0
}

// ready waits until a daemon runs again, as another process.
func (s *session) ready(t *testing.T, p *playground.Playground, daemon string, old int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		for _, d := range p.Status(t.Context()).Daemons {
			if d.Name == daemon && d.PID != old && d.Ready {
				return
			}
			if d.Name == daemon && time.Now().After(deadline) {
				t.Fatalf("%s was killed and did not come back: %+v", daemon, d)
			}
		}
	}
}

// strangers does what other accounts of the host, and pages in a browser, would
// like to: none of it may change anything, since all that runs inside runs as root.
func (s *session) strangers() {
	s.t.Helper()
	p, err := playground.Open(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(s.dir, "secrets", "marathon.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	const app = `{"id":"/x","cmd":"true","instances":0}`
	marathon, registry, api := "http://"+p.Address+":8080", "http://"+p.Address+":5000", "http://"+p.Address+":5054"
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"401", []string{"-H", "Content-Type: application/json", "-d", app, marathon + "/v2/apps"}},
		{"401", []string{"-X", "DELETE", marathon + "/v2/apps/x"}},
		{"401", []string{"-X", "PUT", "-H", "Content-Type: application/json", "-d", `{"id":"/","apps":[]}`, marathon + "/v2/groups"}},
		{"403", []string{"-H", "Origin: http://evil.example", "-H", "Content-Type: text/plain", "-d", app, marathon + "/v2/apps"}},
		{"403", []string{"-H", "Host: evil.example:8080", marathon + "/v2/apps"}},
		{"415", []string{"-H", "Authorization: Bearer " + strings.TrimSpace(string(token)), "-d", app, marathon + "/v2/apps"}},
		{"200", []string{marathon + "/v2/apps"}},
		{"403", []string{"-H", "Host: evil.example", api + "/v1/services"}},
		{"403", []string{"-X", "POST", "-H", "Origin: http://evil.example", api + "/v1/services/hello/kick"}},
		{"403", []string{"-X", "POST", registry + "/v2/hello/blobs/uploads/"}},
		{"403", []string{"-X", "PUT", "-d", "{}", registry + "/v2/hello/manifests/latest"}},
		{"403", []string{"-X", "DELETE", registry + "/v2/hello/manifests/latest"}},
		{"403", []string{"-H", "Host: evil.example", registry + "/v2/_catalog"}},
		{"200", []string{registry + "/v2/_catalog"}},
	} {
		cmd := exec.Command("curl", append([]string{"--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}"}, tt.args...)...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.Output(); err != nil || string(out) != tt.want {
			s.t.Errorf("nobody runs curl %q: %s, %v, want %s", tt.args, out, err, tt.want)
		}
	}
	out, err := exec.Command("sh", "-c", `. "$1/env" && curl --fail-with-body --silent --show-error -H "Authorization: Bearer $PAASTA_PLAYGROUND_TOKEN" -H "Content-Type: application/json" -d "$2" "http://$PAASTA_PLAYGROUND_ADDRESS:8080/v2/apps" &&
		curl --fail-with-body --silent --show-error -X DELETE -H "Authorization: Bearer $PAASTA_PLAYGROUND_TOKEN" "http://$PAASTA_PLAYGROUND_ADDRESS:8080/v2/apps/x"`, "sh", s.dir, app).CombinedOutput()
	if err != nil {
		s.t.Errorf("with what DIR/env says: %v\n%s", err, out)
	}

	// Another account that could read ZooKeeper could end the sessions in it.
	for uid, want := range map[uint32]string{0: "imok", 65534: ""} {
		ruok := exec.Command("curl", "--silent", "--max-time", "10", "telnet://"+p.Address+":2181")
		ruok.Dir, ruok.Stdin = "/", strings.NewReader("ruok")
		ruok.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if out, err := ruok.Output(); string(out) != want {
			s.t.Errorf("ZooKeeper answers %q to user %d, want %q (%v)", out, uid, want, err)
		}
	}
	stranger, err := zk.Dial(zk.Options{Servers: p.Address + ":2181"})
	if err != nil {
		s.t.Fatal(err)
	}
	defer stranger.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for what, do := range map[string]func() error{
		"makes a node":          func() error { return stranger.Create(ctx, "/evil", nil) },
		"registers a backend":   func() error { return stranger.Create(ctx, "/smartstack/evil", nil) },
		"makes a quota":         func() error { return stranger.Create(ctx, "/zookeeper/quota/evil", nil) },
		"removes registrations": func() error { return stranger.Delete(ctx, "/smartstack", -1) },
		"writes to PaaSTA's":    func() error { return stranger.Set(ctx, "/paasta", []byte("evil"), -1) },
	} {
		if err := do(); !errors.Is(err, zk.ErrForbidden) {
			s.t.Errorf("a stranger %s: %v, want %v", what, err, zk.ErrForbidden)
		}
	}
	if _, _, err := stranger.Children(ctx, "/smartstack"); err != nil {
		s.t.Errorf("a stranger reads: %v", err)
	}
	// What the agent says of itself, masters understand.
	host, err := os.Hostname()
	if err != nil {
		s.t.Fatal(err)
	}
	var agent paasta.AgentNode
	if text, _, err := stranger.Get(ctx, paasta.AgentsPath+"/"+host); err != nil || json.Unmarshal(text, &agent) != nil || agent.Location["region"] != playground.Cluster {
		s.t.Errorf("the agent announces %s, %v", text, err)
	}

	// No file that others may read has a secret.
	password, err := os.ReadFile(filepath.Join(s.dir, "secrets", "zookeeper.password"))
	if err != nil {
		s.t.Fatal(err)
	}
	err = filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case info.IsDir() && info.Mode().Perm()&0o001 == 0, info.IsDir() && path == filepath.Join(s.dir, "docker"):
			return fs.SkipDir
		case !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0:
			return nil
		case info.Mode().Perm()&0o022 != 0:
			s.t.Errorf("others may write %s", path)
		}
		text, err := os.ReadFile(path)
		for _, secret := range [][]byte{token, password} {
			if bytes.Contains(text, bytes.TrimSpace(secret)) {
				s.t.Errorf("others may read a secret in %s", path)
			}
		}
		return ignoreGone(err)
	})
	if err != nil {
		s.t.Error(err)
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
