//go:build linux

package playground

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/atomicfile"
)

// A process is told apart from a later one with the same pid by its start, in
// clock ticks since the machine's.
type process struct {
	PID     int       `json:"pid"`
	Start   uint64    `json:"start"`
	Started time.Time `json:"started"`
	Build   string    `json:"build,omitempty"` // of the paasta binary, when it is one
}

// running returns what /proc says about pid now.
func running(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name, in parentheses, may hold anything; fields 3 and on follow it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, fmt.Errorf("process %d is dead", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return process{PID: pid, Start: start}, err
}

// alive tells whether p still runs.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := running(p.PID)
	return err == nil && now.Start == p.Start
}

// signal sends sig to p, and never to a process that came after it.
func (p process) signal(sig unix.Signal) error {
	fd, err := p.open()
	if err != nil {
		return ignoreGone(err)
	}
	defer fd.Close()
	if !p.alive() {
		return nil
	}
	return ignoreGone(unix.PidfdSendSignal(int(fd.Fd()), sig, nil, 0))
}

// open returns a handle on whatever has p's pid now.
func (p process) open() (*os.File, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// wait returns nil once p has ended, or ctx's error.
func (p process) wait(ctx context.Context) error {
	fd, err := p.open()
	if err != nil {
		return ignoreGone(err)
	}
	defer fd.Close()
	for p.alive() {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A second at most, to look at ctx; the end itself is noticed at once.
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd.Fd()), Events: unix.POLLIN}}, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
	}
	return nil
}

// stop ends p: politely, and after the grace period by force.
func (p process) stop(ctx context.Context, grace time.Duration) error {
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	polite, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if p.wait(polite) == nil {
		return nil
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return p.wait(ctx)
}

func (p *Playground) pidFile(name string) string { return p.path("run", name+".pid") }

// readPID returns what a pid file says; the zero process when there is none.
func (p *Playground) readPID(name string) process {
	var found process
	text, err := os.ReadFile(p.pidFile(name))
	if err != nil || json.Unmarshal(text, &found) != nil {
		return process{}
	}
	return found
}

func (p *Playground) writePID(name string, proc process) error {
	text, err := json.Marshal(proc)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return atomicfile.Write(p.pidFile(name), append(text, '\n'), 0o644)
}

// buildOf tells builds of a binary apart.
func buildOf(binary string) string {
	info, err := os.Stat(binary)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
}

// processes lists the processes for which belongs is true, but for our own.
func processes(belongs func(pid int) bool) []process {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	var found []process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || !belongs(pid) {
			continue
		}
		if p, err := running(pid); err == nil {
			found = append(found, p)
		}
	}
	return found
}
