package localrun

import (
	"context"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/gopaasta/paasta/paasta/process"
)

// removeLeft removes the containers of runs that were killed before they could
// do it: those whose process, one of this machine, is gone.
func (e *Engine) removeLeft(ctx context.Context, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", runLabel))})
	if err != nil {
		return err
	}
	for _, c := range list {
		if process.StateOf(c.Labels[ownerLabel]) != process.Gone {
			continue // or of another machine: nobody here can tell
		}
		say("Removing %s, which a local run that was killed has left", strings.TrimPrefix(c.Names[0], "/"))
		e.remove(ctx, c.ID, say)
	}
	return nil
}
