package environment

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/process"
)

// owner names this process among all that may use one engine.
func owner() string {
	if name := process.Self(); name != "" {
		return name
	}
	return onHost() + strconv.Itoa(os.Getpid())
}

// onHost begins names where the system has none for processes (macOS): there a
// pid has to do, and what has one that is another's now stays until its time is
// over.
func onHost() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("pid/%s/", host)
}

// look tells whether an owner still runs.
func look(owner string) process.State {
	at, ok := strings.CutPrefix(owner, onHost())
	pid, err := strconv.Atoi(at)
	switch {
	case !ok || err != nil || pid < 1:
		return process.StateOf(owner)
	case errors.Is(unix.Kill(pid, 0), unix.ESRCH):
		return process.Gone
	}
	return process.Alive
}
