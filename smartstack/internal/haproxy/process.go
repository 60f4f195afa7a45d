package haproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
)

// A Process is the HAProxy on this host. It belongs to nobody: it is a daemon
// in a session of its own, which a restarted agent finds again by its socket.
type Process struct {
	Binary string // path or name
	Dir    string // holds haproxy.cfg, haproxy.pid, haproxy.sock and server-state
	// Kept are the listeners of a process before, which a start without a running
	// one takes over; nil for none.
	Kept *Listeners
}

// Paths in Dir.
func (p Process) config() string  { return filepath.Join(p.Dir, "haproxy.cfg") }
func (p Process) pidFile() string { return filepath.Join(p.Dir, "haproxy.pid") }

// Socket is where the runtime API listens.
func (p Process) Socket() string { return filepath.Join(p.Dir, "haproxy.sock") }

// StateFile is what a new process reads server states from.
func (p Process) StateFile() string { return filepath.Join(p.Dir, "server-state") }

// Runtime returns the runtime API of the process.
func (p Process) Runtime() *Runtime { return &Runtime{Socket: p.Socket()} }

// A ConfigError is HAProxy's refusal of a config or of a start.
type ConfigError struct {
	Did    string // Checked or Started
	Output string // alerts, one a line
}

// What HAProxy can refuse. A check depends on the config alone, a start on the
// host as well: on ports that are free.
const (
	Checked = "check config"
	Started = "start"
)

func (e *ConfigError) Error() string { return "haproxy: " + e.Did + ": " + e.Output }

// Check asks HAProxy whether it would accept the config that write writes. A refusal
// is a *ConfigError.
func (p Process) Check(ctx context.Context, write func(*bufio.Writer)) error {
	f, err := os.CreateTemp(p.Dir, ".check-*.cfg")
	if err != nil {
		return fmt.Errorf("check haproxy config: %w", err)
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<16)
	write(w)
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("check haproxy config: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return p.run(ctx, Checked, "-c", "-f", f.Name())
}

// Write puts config where the next start reads it, all or nothing.
func (p Process) Write(config []byte) error { return atomicfile.Write(p.config(), config, 0o600) }

// WriteBy is Write with what write writes.
func (p Process) WriteBy(write func(*bufio.Writer)) error {
	return atomicfile.WriteFunc(p.config(), 0o600, write)
}

// Written reads what Write wrote last.
func (p Process) Written() ([]byte, error) { return os.ReadFile(p.config()) }

// Start starts a process from the written config and returns its pid. With
// old, a running process, the new one takes over its listeners; without, it takes
// those that were kept, or begins from nothing. Then it tells all others to finish. The
// end of ctx does not stop it half-way, when the old one may have been told.
func (p Process) Start(ctx context.Context, old int) (int, error) {
	args := []string{"-D", "-f", p.config(), "-p", p.pidFile()}
	if old != 0 {
		args = append(args, "-x", p.Socket())
	} else if p.Kept != nil {
		path, stop, err := p.Kept.pass(p.Dir)
		if err != nil {
			return 0, err
		}
		defer stop()
		if path != "" {
			args = append(args, "-x", path)
		}
	}
	// All of ours, also those that do not answer on the socket or that an agent which
	// was killed had begun to start: HAProxy shares its ports with them, so they would
	// go on taking a part of the connections.
	if all := p.All(); len(all) > 0 {
		args = append(args, "-sf")
		for _, pid := range all {
			args = append(args, strconv.Itoa(pid))
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 60*time.Second)
	defer cancel()
	if err := p.run(ctx, Started, args...); err != nil {
		return 0, err
	}
	pid, err := p.pid()
	if err != nil {
		return 0, fmt.Errorf("start haproxy: it wrote no pid: %w", err)
	}
	return pid, nil
}

// KeepHealth writes the states of the servers of process pid for the next
// start; without a process it removes what an earlier one left.
func (p Process) KeepHealth(ctx context.Context, pid int) error {
	var states []ServerState
	if pid != 0 {
		var err error
		if states, err = p.Runtime().ServerStates(ctx, pid); err != nil {
			return errors.Join(fmt.Errorf("read server states: %w", err), p.KeepHealth(ctx, 0))
		}
	}
	return atomicfile.Write(p.StateFile(), CarryOver(states), 0o600)
}

// run runs haproxy in a session of its own, so that a signal to the agent's
// process group does not reach it.
func (p Process) run(ctx context.Context, did string, args ...string) error {
	cmd := exec.CommandContext(ctx, p.Binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	// A file, not a pipe: the daemon keeps its stderr for a moment, and we must
	// not wait for it.
	out, err := os.CreateTemp(p.Dir, ".haproxy-*.out")
	if err != nil {
		return fmt.Errorf("haproxy: %s: %w", did, err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("haproxy: %s: %w", did, ctx.Err())
	case errors.As(err, &exit) && exit.Exited(): // one that was killed has refused nothing
		text, readErr := os.ReadFile(out.Name())
		if readErr != nil {
			return fmt.Errorf("haproxy: %s: %w", did, errors.Join(err, readErr))
		}
		return &ConfigError{did, alerts(text, err)}
	default:
		return fmt.Errorf("haproxy: %s: %w", did, err)
	}
}

// alerts returns the lines of HAProxy's output that say what is wrong.
func alerts(out []byte, err error) string {
	var lines []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "[ALERT]") {
			_, text, _ := strings.Cut(line, " : ")
			if text = strings.TrimSpace(text); !noReason.MatchString(text) {
				lines = append(lines, text)
			}
		}
	}
	if len(lines) == 0 {
		return strings.TrimSpace(err.Error() + "\n" + string(bytes.TrimSpace(out[max(0, len(out)-1000):])))
	}
	return strings.Join(lines, "\n")
}

// noReason matches the alerts that follow those with the reason: that there were
// some, and, since 3.3, that the child which said them has ended.
var noReason = regexp.MustCompile(`^(Process \d+ exited with code|(config : )?(Error\(s\)|Fatal errors) found in configuration)`)

func (p Process) pid() (int, error) {
	text, err := os.ReadFile(p.pidFile())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Running finds the process that serves now: the one behind the socket. ok is
// false when there is none. Just after a reload both processes have the socket,
// and one that is finishing may have taken the question: it is asked again.
func (p Process) Running(ctx context.Context) (in Info, ok bool, err error) {
	for range 5 {
		in, err = p.Runtime().Info(ctx)
		switch {
		case err == nil && in.PID != 0 && !in.Stopping:
			return in, true, nil
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
			return Info{}, false, nil
		case err != nil:
			return Info{}, false, err
		}
		select {
		case <-ctx.Done():
			return Info{}, false, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return Info{}, false, nil
}

// All lists the processes that run from our config, old ones among them.
func (p Process) All() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	config := []byte("\x00-f\x00" + p.config() + "\x00")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.Contains(cmdline, config) && bytes.Contains(cmdline, []byte("\x00-D\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leftover is what the files are called that are on their way to somewhere else.
var leftover = regexp.MustCompile(`^\.(check-\d+\.cfg|haproxy-\d+\.out|.+-\d+)$`)

// Tidy removes from Dir what an agent that was killed had begun to write: the
// configs of a large host are megabytes. Only the agent that has Dir may.
func (p Process) Tidy() error {
	entries, err := os.ReadDir(p.Dir)
	errs := []error{err}
	for _, e := range entries {
		if leftover.MatchString(e.Name()) && e.Type().IsRegular() {
			errs = append(errs, os.Remove(filepath.Join(p.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Stop ends every process of ours, at once. Only tests and "paasta smartstack
// stop" want that.
func (p Process) Stop(ctx context.Context) error {
	for _, pid := range p.All() {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop haproxy %d: %w", pid, err)
		}
		select {
		case <-Exited(ctx, pid):
		case <-time.After(2 * time.Second):
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill haproxy %d: %w", pid, err)
			}
		}
	}
	return ctx.Err()
}
