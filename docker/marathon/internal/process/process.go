// Package process runs tasks as plain processes of this host, each in a session
// of its own, and says what becomes of them. They live on without it: it finds
// them again by pid and start time, and a small shell around each writes down
// how it ended.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/paasta/process"
)

// Options is what a Runner is made of. Every field is required.
type Options struct {
	Sandboxes string // directory of the tasks' own directories
	Fetch     func(ctx context.Context, t core.Task, sandbox string) error
	Report    func(core.Status)       // something became of a task
	Found     func(all []core.Status) // what still runs, and what has ended, at the start
	Log       *slog.Logger
}

// A Runner runs tasks as processes.
type Runner struct {
	o       Options
	ctx     context.Context // of New
	adopted chan struct{}   // closed once Run knows what runs
	work    sync.WaitGroup

	mu       sync.Mutex
	procs    map[string]*proc // by task
	starting map[string]bool  // tasks that are being launched: was one killed meanwhile?
}

// A proc is the shell around a task; it leads a session and a process group.
type proc struct {
	pid   int
	begun string        // start time from /proc, so that another's pid is not taken for it
	ended chan struct{} // closed once it has
}

// New returns a runner that acts until ctx, which is Run's too, ends. What it is
// asked for before Run is done once that has begun.
func New(ctx context.Context, o Options) *Runner {
	return &Runner{o: o, ctx: ctx, adopted: make(chan struct{}), procs: map[string]*proc{}, starting: map[string]bool{}}
}

// around runs a command and writes down how it ended. A signal to the whole
// group must not end it before it has done so; whoever it starts gets the
// default of each signal again, since it has handlers and ignores nothing.
const around = `trap : TERM HUP INT QUIT
"$@"
echo $? >"$PAASTA_EXIT.new" && mv "$PAASTA_EXIT.new" "$PAASTA_EXIT"`

const (
	exitFile = ".paasta-exit" // exit status, in the sandbox
	pidFile  = ".paasta-pid"  // pid and start time
	endFile  = ".paasta-end"  // exists once the end has been reported
)

// Run adopts what runs, reports it, and waits until ctx ends; it then returns
// nil. Processes go on.
func (r *Runner) Run(ctx context.Context) error {
	r.o.Found(r.adopt())
	close(r.adopted)
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	defer r.work.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			r.sweep()
		}
	}
}

// adopt looks through the sandboxes for processes.
func (r *Runner) adopt() []core.Status {
	files, _ := filepath.Glob(filepath.Join(r.o.Sandboxes, "*", pidFile)) // the pattern is good
	var all []core.Status
	for _, file := range files {
		sandbox := filepath.Dir(file)
		id := filepath.Base(sandbox)
		if _, err := os.Stat(filepath.Join(sandbox, endFile)); err == nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		number, begun, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		p := &proc{pid, begun, make(chan struct{})}
		if p.lives() {
			r.mu.Lock()
			r.procs[id] = p
			r.mu.Unlock()
			r.work.Go(func() { r.wait(id, p) })
			all = append(all, core.Status{TaskID: id, State: core.Running, Handle: handle(pid)})
			continue
		}
		all = append(all, r.ending(id))
	}
	return all
}

func handle(pid int) string { return core.ProcessHandle + strconv.Itoa(pid) }

// begun returns the start time of a process, "" when there is none or it is
// only a zombie.
func begun(pid int) string {
	start, err := process.Started(pid)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(start, 10)
}

func (p *proc) lives() bool { return p.begun != "" && begun(p.pid) == p.begun }

// do does something once Run knows what runs, unless the end comes first: then
// it is asked for again when paasta marathon starts again.
func (r *Runner) do(f func()) {
	if r.ctx.Err() != nil {
		return
	}
	r.work.Go(func() {
		select {
		case <-r.adopted:
			f()
		case <-r.ctx.Done():
		}
	})
}

// Launch starts a task's process and reports how that went.
func (r *Runner) Launch(l core.Launch) {
	id := l.Task.ID
	r.mu.Lock()
	r.starting[id] = false
	r.mu.Unlock()
	r.do(func() {
		p, err := r.start(r.ctx, l)
		r.mu.Lock()
		killed := r.starting[id]
		delete(r.starting, id)
		r.mu.Unlock()
		if err != nil {
			if r.ctx.Err() == nil {
				r.o.Report(core.Status{TaskID: id, State: core.Failed, Message: "Failed to launch process: " + err.Error()})
			}
			return
		}
		r.o.Report(core.Status{TaskID: id, State: core.Running, Handle: handle(p.pid)})
		if killed {
			r.end(p, 0)
		}
		r.wait(id, p)
	})
}

func (r *Runner) start(ctx context.Context, l core.Launch) (*proc, error) {
	t, a := l.Task, l.Task.App
	sandbox := filepath.Join(r.o.Sandboxes, t.ID)
	if err := os.MkdirAll(sandbox, 0o755); err != nil {
		return nil, err
	}
	if err := r.o.Fetch(ctx, t, sandbox); err != nil {
		return nil, err
	}
	stdout, err := os.OpenFile(filepath.Join(sandbox, "stdout"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(filepath.Join(sandbox, "stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	args := a.Args
	if a.Cmd != nil {
		args = []string{"/bin/sh", "-c", *a.Cmd}
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", around, "paasta"}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = sandbox, stdout, stderr
	cmd.Env = Env(l.Env, sandbox)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.User != "" {
		if cmd.SysProcAttr.Credential, err = credential(a.User, sandbox); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proc{cmd.Process.Pid, begun(cmd.Process.Pid), make(chan struct{})}
	// Reaping it is all that being its parent is for: how it ended is in its file.
	go func() { _ = cmd.Wait() }()
	note := fmt.Sprintf("%d %s\n", p.pid, p.begun)
	if err := os.WriteFile(filepath.Join(sandbox, pidFile), []byte(note), 0o644); err != nil {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // it could not be found again
		return nil, err
	}
	r.mu.Lock()
	r.procs[t.ID] = p
	r.mu.Unlock()
	return p, nil
}

// Env returns the environment of a process: ours is not handed on but for PATH
// and what programs need to find their way.
func Env(env map[string]string, sandbox string) []string {
	list := []string{"MESOS_SANDBOX=" + sandbox, "PAASTA_EXIT=" + filepath.Join(sandbox, exitFile)}
	for _, k := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(k); ok {
			list = append(list, k+"="+v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

func credential(name, sandbox string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(sandbox, int(uid), int(gid))
}

// wait waits for the end of a process, and reports it.
func (r *Runner) wait(id string, p *proc) {
	if !r.await(p) {
		return // we stop, it goes on
	}
	close(p.ended)
	// What it has left behind in its group goes too: it would keep its ports.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	s := r.ending(id)
	r.mu.Lock()
	delete(r.procs, id)
	r.mu.Unlock()
	r.o.Report(s)
}

// ending says how a task's process ended.
func (r *Runner) ending(id string) core.Status {
	sandbox := filepath.Join(r.o.Sandboxes, id)
	if err := os.WriteFile(filepath.Join(sandbox, endFile), nil, 0o644); err != nil {
		r.o.Log.Warn("write the end of a process failed", "task", id, "err", err)
	}
	s := core.Status{TaskID: id, State: core.Failed}
	text, err := os.ReadFile(filepath.Join(sandbox, exitFile))
	status, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil && bad == nil {
		s.Exit = &status
	}
	switch {
	case err != nil || bad != nil:
		s.Message = "Command terminated with signal Killed"
	case status == 0:
		s.State, s.Message = core.Finished, "Command exited with status 0"
	case daemon.ExitSignal(status) != 0:
		s.Message = fmt.Sprintf("Command terminated with signal %v", daemon.ExitSignal(status))
	default:
		s.Message = fmt.Sprintf("Command exited with status %d", status)
	}
	return s
}

// Kill ends a task: SIGTERM to its group, and SIGKILL after the grace. One that
// has no process, and gets none, is reported gone.
func (r *Runner) Kill(k core.Kill) {
	r.do(func() {
		r.mu.Lock()
		p := r.procs[k.TaskID]
		_, starting := r.starting[k.TaskID]
		if starting && p == nil {
			r.starting[k.TaskID] = true
		}
		r.mu.Unlock()
		switch {
		case p != nil:
			r.end(p, k.Grace)
		case !starting:
			r.o.Report(core.Status{TaskID: k.TaskID, State: core.Gone, Message: "its process is gone"})
		}
	})
}

func (r *Runner) end(p *proc, grace time.Duration) {
	if !p.lives() {
		return
	}
	_ = syscall.Kill(-p.pid, syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-r.ctx.Done():
	case <-time.After(grace):
		if p.lives() {
			_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		}
	}
}

// Exec runs a shell command as a task's health check: with its environment, in
// its sandbox.
func (r *Runner) Exec(ctx context.Context, id, command string, env map[string]string) error {
	sandbox := filepath.Join(r.o.Sandboxes, id)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir, cmd.Env = sandbox, Env(env, sandbox)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("Command %w", err) //nolint:staticcheck // Mesos' words
	}
	return nil
}

// keepFor is how long the sandbox of a process that has ended is kept.
const keepFor = time.Hour

func (r *Runner) sweep() {
	files, _ := filepath.Glob(filepath.Join(r.o.Sandboxes, "*", endFile)) // the pattern is good
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > keepFor {
			if err := os.RemoveAll(filepath.Dir(file)); err != nil {
				r.o.Log.Warn("remove sandbox failed", "path", filepath.Dir(file), "err", err)
			}
		}
	}
}
