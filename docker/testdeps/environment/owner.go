package environment

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// owner names this process among all that may use one engine:
// "<boot id>/<pid namespace>/<pid>/<start>", as far as the system tells.
func owner() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s/%d/%s", host(), pid, started(pid))
}

// host names this boot of this machine, and the pid namespace.
func host() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil { // not a Linux
		name, err := os.Hostname()
		if err != nil {
			name = "unknown"
		}
		return strings.ReplaceAll(name, "/", "-") + "/-"
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		namespace = "-"
	}
	return strings.TrimSpace(string(boot)) + "/" + namespace
}

// started is when a process began, in the kernel's own ticks; "" when unknown.
func started(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, in parentheses, may hold anything.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return ""
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "over" // dead, and its parent has not asked yet
	}
	return fields[19] // the 22nd of all
}

// An aliveness is what we know of the process that made an environment.
type aliveness int

const (
	unknown aliveness = iota // it is another machine's
	alive
	dead
)

func aliveOwner(owner string) aliveness {
	at, ok := strings.CutPrefix(owner, host()+"/")
	if !ok {
		return unknown
	}
	number, start, _ := strings.Cut(at, "/")
	pid, err := strconv.Atoi(number)
	if err != nil || pid < 1 {
		return unknown
	}
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return dead
	}
	if now := started(pid); now != "" && start != "" && now != start {
		return dead // another process has its number now
	}
	return alive
}
