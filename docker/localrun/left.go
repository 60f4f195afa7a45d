package localrun

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// owner names this process so that no other, later one is taken for it: the
// machine, the pid, when it was started, and among which pids.
func owner() string { return ownerOf(os.Getpid()) }

func ownerOf(pid int) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s %s", host, process(pid))
}

// process is "" when there is no such process.
func process(pid int) string {
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		space = "-" // no /proc here: the pid has to do
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	switch {
	case errors.Is(err, fs.ErrNotExist) && space != "-":
		return ""
	case err != nil:
		return fmt.Sprintf("%s %d -", space, pid)
	}
	// What is before the last parenthesis is the program's name, with anything in it.
	rest := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const state, start = 0, 19
	if len(rest) <= start || rest[state] == "Z" || rest[state] == "X" {
		return ""
	}
	return fmt.Sprintf("%s %d %s", space, pid, rest[start])
}

// removeLeft removes the containers of runs that were killed before they could
// do it: those whose process, one of this machine, is gone.
func (e *Engine) removeLeft(ctx context.Context, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", runLabel))})
	if err != nil {
		return err
	}
	mine := strings.Fields(owner())
	for _, c := range list {
		theirs := strings.Fields(c.Labels[ownerLabel])
		if len(mine) != 4 || len(theirs) != 4 || theirs[0] != mine[0] || theirs[1] != mine[1] || mine[3] == "-" {
			continue // of another machine: nobody here can tell
		}
		var pid int
		if _, err := fmt.Sscan(theirs[2], &pid); err != nil || ownerOf(pid) == c.Labels[ownerLabel] {
			continue
		}
		say("Removing %s, which a local run that was killed has left", strings.TrimPrefix(c.Names[0], "/"))
		e.remove(ctx, c.ID, say)
	}
	return nil
}
