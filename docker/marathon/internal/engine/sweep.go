package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Which containers of tasks that have ended are kept, for whoever wants to look
// into them; and how old a container is that was made, is not being started, and
// so never will be.
const (
	keepPerApp = 5
	keepFor    = time.Hour
	neverStart = 10 * time.Minute
)

// sweep removes containers that nobody will ask for, and sandboxes without one.
func (e *Engine) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	list, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: e.mine()})
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, c := range list {
		needed[c.Labels[taskLabel]] = true
	}
	for _, c := range unneeded(list, time.Now(), e.isStarting) {
		if c.State != container.StateCreated && !e.o.Over(c.Labels[taskLabel]) {
			continue // its output is still to be kept
		}
		e.remove(ctx, c.ID)
		delete(needed, c.Labels[taskLabel])
	}
	err = sweepSandboxes(e.o.Sandboxes, time.Now().Add(-keepFor), func(taskID string) bool { return needed[taskID] || e.isStarting(taskID) })
	if err != nil {
		e.o.Log.Warn("remove sandboxes failed", "err", err)
	}
	return nil
}

func (e *Engine) isStarting(taskID string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.starting[taskID] != nil
}

// unneeded returns those of our containers, the newest first, that are to be
// removed.
func unneeded(list []container.Summary, now time.Time, starting func(taskID string) bool) []container.Summary {
	var all []container.Summary
	ended := map[string]int{}
	for _, c := range list {
		age := now.Sub(time.Unix(c.Created, 0))
		switch c.State {
		case container.StateCreated:
			// Its task was killed while it was made.
			if age > neverStart && !starting(c.Labels[taskLabel]) {
				all = append(all, c)
			}
		case container.StateExited, container.StateDead:
			app := c.Labels[appLabel]
			if ended[app]++; ended[app] > keepPerApp || age >= keepFor {
				all = append(all, c)
			}
		}
	}
	return all
}

// sweepSandboxes removes the directories of tasks that nobody needs and that
// were last changed before a time: their containers are gone, or never were.
func sweepSandboxes(dir string, before time.Time, needed func(taskID string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no task yet
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || needed(entry.Name()) || info.ModTime().After(before) {
			continue // without info: somebody was faster
		}
		errs = append(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return errors.Join(errs...)
}
