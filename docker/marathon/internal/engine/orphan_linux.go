package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// An engine that is killed while it starts a container may leave its processes
// behind: the next one holds the container for not running, cannot start it, and
// gives its address to another container, which then cannot be reached. These
// are the container's processes, which its cgroup names, and containerd's shim,
// which has the id among its arguments; when the shim dies containerd clears up
// what is left.

// killOrphans kills the processes of containers that the engine holds for not
// running, by full id, and waits a moment for their end. Where the engine is on
// another host there are none.
func (e *Engine) killOrphans(ctx context.Context, ids ...string) {
	if len(ids) == 0 {
		return
	}
	const tries, pause = 100, 20 * time.Millisecond
	for n := range tries {
		found := false
		for pid, id := range processesOf(ids) {
			switch err := unix.Kill(pid, unix.SIGKILL); {
			case errors.Is(err, unix.ESRCH):
				continue
			case err != nil:
				e.o.Log.Error("a process is left of a container whose start the engine's death broke off; kill it, it has an address that others get",
					"container", id, "pid", pid, "err", err)
				return
			case n == 0:
				e.o.Log.Info("killed a process that is left of a container whose start the engine's death broke off", "container", id, "pid", pid)
			}
			found = true
		}
		if !found || ctx.Err() != nil {
			return
		}
		time.Sleep(pause)
	}
}

// processesOf finds the live processes of containers of this host, and whose
// they are.
func processesOf(ids []string) map[int]string {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	found := map[int]string{}
	for _, file := range files {
		dir := filepath.Dir(file)
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		// What cannot be read has ended.
		groups, _ := os.ReadFile(file)
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // empty for zombies
		for _, id := range ids {
			if len(args) > 0 && (bytes.Contains(groups, []byte(id)) || isShim(args, id)) {
				found[pid] = id
			}
		}
	}
	return found
}

// isShim tells whether arguments, each with a 0 behind it, are those of a
// container's shim.
func isShim(args []byte, id string) bool {
	program, _, _ := bytes.Cut(args, []byte{0})
	return bytes.HasPrefix([]byte(filepath.Base(string(program))), []byte("containerd-shim")) &&
		bytes.Contains(args, []byte("\x00-id\x00"+id+"\x00"))
}
