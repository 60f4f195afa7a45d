// Package process names processes so that none is ever taken for another one
// that has its pid now, and tells whether the one that bore a name is gone. Names
// are written down where other processes, later ones too, read them: in
// ZooKeeper, in files, as labels.
package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A State is what is known of the process with a name.
type State int

// The states. Unknown is everything of another host, of another container, and
// of what is no name.
const (
	Unknown State = iota
	Alive
	Gone
)

// String returns the word for it.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Gone:
		return "gone"
	}
	return "unknown"
}

// Self names this process: "<host>/<boot>/<namespaces>/<pid>/<start>". It is ""
// where the system does not tell enough for a name (it is no Linux, or has no
// /proc).
func Self() string { return Name(os.Getpid()) }

// Name names a process among those that this one sees; "" when there is none.
func Name(pid int) string {
	start, err := Started(pid)
	where := whereabouts()
	if err != nil || where == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d/%d", where, pid, start)
}

// StateOf tells whether a process still runs. It says Gone only when that is
// certain: it was one of this boot of this host, seen from the same namespaces,
// and there is no such pid, or a process that began at another time has it, or
// it is a zombie. A process that is stopped lives.
func StateOf(name string) State {
	where := whereabouts()
	at, ok := strings.CutPrefix(name, where+"/")
	if !ok || where == "" {
		return Unknown
	}
	number, begun, _ := strings.Cut(at, "/")
	pid, err := strconv.Atoi(number)
	start, bad := strconv.ParseUint(begun, 10, 64)
	if err != nil || bad != nil || pid <= 0 {
		return Unknown
	}
	// /proc may hide the processes of others; signals know all of them.
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return Gone
	}
	switch now, err := Started(pid); {
	case errors.Is(err, errEnded):
		return Gone
	case err != nil:
		return Unknown
	case now != start:
		return Gone
	}
	return Alive
}

// errEnded is what Started says of a zombie.
var errEnded = errors.New("has ended")

// Started returns when a process began, in clock ticks since the machine did;
// with its pid that tells it from every other one since then. It is an error
// when there is no such process or it is but a zombie, which its parent has not
// asked about yet.
func Started(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	start, ended, err := parseStat(string(text))
	switch {
	case err != nil:
		return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	case ended:
		return 0, fmt.Errorf("process %d %w", pid, errEnded)
	}
	return start, nil
}

// parseStat reads what proc(5) calls /proc/pid/stat.
func parseStat(text string) (start uint64, ended bool, err error) {
	// The second field, the program's name in parentheses, may hold anything.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const state, threads, begun = 0, 17, 19 // fields 3, 20 and 22
	if len(fields) <= begun {
		return 0, false, fmt.Errorf("%d fields, want more than 22", len(fields)+2)
	}
	if start, err = strconv.ParseUint(fields[begun], 10, 64); err != nil {
		return 0, false, fmt.Errorf("start time: %w", err)
	}
	// A process whose first thread has ended shows as a zombie, with others.
	dead := fields[state] == "Z" || fields[state] == "X"
	return start, dead && (fields[threads] == "0" || fields[threads] == "1"), nil
}

// whereabouts names what pids and start times mean something within: this boot
// of this host (clones of a virtual machine share the boot's id), and the
// namespaces through which we see them. It is "" where that is not known.
func whereabouts() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	pids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	// Kernels before 5.6 have but one of these.
	times, err := os.Readlink("/proc/self/ns/time")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return fmt.Sprintf("%s/%s/%s%s", strings.ReplaceAll(host, "/", "-"), strings.TrimSpace(string(boot)), pids, times)
}
