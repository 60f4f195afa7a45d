package deployd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/deployd"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

// asProcess makes the test binary be "paasta deployd".
const asProcess = "PAASTA_TEST_DEPLOYD"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c := deployd.Command()
	c.Flags(pflag.NewFlagSet("deployd", pflag.ContinueOnError)) // sets the defaults
	if err := c.Run(ctx, command.IO{Out: os.Stdout, Err: os.Stderr}, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A process is a deployd of its own.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// process starts "paasta deployd" on the world, with a repository of git.
func (w *world) process(repo string, env ...string) *process {
	w.t.Helper()
	dir := w.t.TempDir()
	config := fmt.Sprintf(`cluster: %s
clusters: [%s]
soa_dir: %s
zookeeper: %s
docker_registry: registry:5000
marathon_servers: [{url: ["%s"]}]
deployd: {listen: "127.0.0.1:0", drain_timeout: 20s}
`, cluster, cluster, w.config.SoaDir, w.zkAddr, w.marathon.URL)
	must(w.t, os.WriteFile(filepath.Join(dir, "paasta.yaml"), []byte(config), 0o644))
	p := &process{t: w.t, cmd: exec.Command(os.Args[0]), log: &lockedBuffer{}, done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), asProcess+"=1", "PAASTA_SYSTEM_CONFIG_DIR="+dir)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = p.log
	must(w.t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	w.t.Cleanup(func() {
		p.kill()
		if w.t.Failed() {
			w.t.Logf("deployd (repository %s):\n%s", repo, p.log)
		}
	})
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have gone by itself
	<-p.done
	p.done <- nil
}

// crashed waits until the process has killed itself.
func (p *process) crashed(within time.Duration) {
	p.t.Helper()
	select {
	case err := <-p.done:
		p.done <- nil
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			p.t.Fatalf("deployd ended with %v, want SIGKILL", err)
		}
	case <-time.After(within):
		p.t.Fatalf("the step was not reached within %s\n%s", within, p.log)
	}
}

// repository makes a bare repository with two commits, and returns how to tag.
func repository(t *testing.T) (dir string, commits []string, tag func(ref, sha string)) {
	t.Helper()
	git := paastatest.Need(t, "git")
	dir = t.TempDir()
	run := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(git, append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t")
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("", "init", "-q", "--bare")
	tree := run("", "mktree")
	for n := range 2 {
		commits = append(commits, run("", "commit-tree", tree, "-m", fmt.Sprint(n)))
	}
	return dir, commits, func(ref, sha string) {
		t.Helper()
		run("", "update-ref", ref, sha)
	}
}

// The death of a leader is seen by the others on its host at once, not only when
// its session expires; that it is stopped is not its death.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo, _, _ := repository(t)
	w.soa("web", "service.yaml", "git_url: "+repo+"\n")
	leads := func(p *process) {
		t.Helper()
		w.until("lead", func() string {
			if !strings.Contains(p.log.String(), "leadership won") {
				return "it does not lead"
			}
			return ""
		})
	}
	first := w.process(repo)
	leads(first)
	second := w.process(repo)
	w.until("stand by", func() string {
		names, _, err := w.conn.Children(w.ctx(), paasta.LeaderPath(cluster))
		if err != nil || len(names) != 2 {
			return fmt.Sprintf("candidates %v, %v", names, err)
		}
		return ""
	})
	must(t, first.cmd.Process.Signal(syscall.SIGSTOP))
	time.Sleep(time.Second) // twice as long as it takes to see a death
	if strings.Contains(second.log.String(), "leadership won") {
		t.Error("a leader that was stopped has been robbed")
	}
	killed := time.Now()
	first.kill()
	leads(second)
	if took := time.Since(killed); took > 8*time.Second {
		t.Errorf("led %s after the leader was killed; its session lasts 10s", took)
	}
}

// A deployd that is killed at any step of a bounce leaves a bounce that the
// next one finishes, and at no time fewer tasks take traffic than should.
func TestKilledAtEachStep(t *testing.T) {
	server := zktest.Start(t)
	for n, step := range deployd.Steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorldAt(t, fmt.Sprintf("%s/root%d", server.Addr(), n))
			repo, commits, tag := repository(t)
			w.soa("web", "service.yaml", "git_url: "+repo+"\n")
			w.agent("host1", hosts...)
			w.marathon.Auto(true)
			w.marathon.KillDelay(50 * time.Millisecond)
			deploy := func(second int, sha string) {
				t.Helper()
				tag(fmt.Sprintf("refs/tags/paasta-%s.main-20260101T0000%02d-deploy", cluster, second), sha)
				w.kick("web")
			}
			deploy(1, commits[0])
			first := w.process(repo)
			w.untilRunning(commits[0], 3)
			first.kill()

			watch := w.capacity(3)
			second := w.process(repo, deployd.CrashAt+"="+step)
			if step == "scaled" {
				// Not part of a bounce to a new commit.
				w.instance("instances: 5\n")
			}
			deployed := make(chan struct{})
			go func() { // once the second leads, or its first look would do it all
				defer close(deployed)
				w.until("lead", func() string {
					if !strings.Contains(second.log.String(), "leadership won") {
						return "nobody leads"
					}
					return ""
				})
				if step != "scaled" {
					deploy(2, commits[1])
				}
			}()
			<-deployed
			second.crashed(30 * time.Second)
			want, size := commits[1], 3
			if step == "scaled" {
				want, size = commits[0], 5
			}
			w.process(repo)
			w.untilRunning(want, size)
			watch()
		})
	}
}

// capacity watches that at least n tasks run and take traffic, until the
// returned function is called.
func (w *world) capacity(n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		low := 0
		for ctx.Err() == nil {
			// What runs is read first: a task that is killed in between had been
			// drained before.
			running := map[string]bool{}
			for _, t := range w.marathon.Tasks("") {
				running[t.ID] = t.State == "TASK_RUNNING"
			}
			set, err := w.registry.List(ctx, web)
			if err != nil {
				continue
			}
			serving := 0
			for _, e := range set.Nodes {
				if e.Weight > 0 && running[e.Labels[registry.LabelTaskID]] {
					serving++
				}
			}
			if low++; serving >= n {
				low = 0
			}
			if low == 3 {
				w.t.Errorf("%d tasks run and take traffic, want %d\n%s", serving, n, w.dump())
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.t.Cleanup(stop)
	return stop
}
