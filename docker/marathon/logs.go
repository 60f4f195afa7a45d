package marathon

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gopaasta/paasta/docker/marathon/internal/api"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/engine"
	"github.com/gopaasta/paasta/docker/marathon/internal/process"
)

// logs finds a task's output: of one that is known where it runs, of one that
// has ended wherever it is still kept.
func (s *server) logs(ctx context.Context, id string, q api.LogQuery, send func(api.LogLine) error) error {
	if core.AppOfTask(id) == "" || id != cleanName(id) {
		return api.ErrNoTask
	}
	var t *core.Task
	err := s.do(ctx, func(m *core.Machine, _ time.Time) { t = m.Task(id) })
	if err != nil {
		return err
	}
	if t == nil || t.Process() {
		err = s.process.Logs(ctx, id, q.Stdout, q.Stderr, q.Follow, q.Lines, func(l process.Line) error {
			return send(api.LogLine{Time: l.Time.UTC(), Stream: l.Stream, Message: l.Text})
		})
		if t != nil || !errors.Is(err, fs.ErrNotExist) {
			return missing(err)
		}
	}
	handle := ""
	if t != nil {
		handle = t.Handle
	}
	return missing(s.engine.Logs(ctx, handle, id, q.Stdout, q.Stderr, q.Follow, q.Lines, func(l engine.Line) error {
		return send(api.LogLine{Time: l.Time.UTC(), Stream: l.Stream, Message: l.Text})
	}))
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errdefs.IsNotFound(err) {
		return api.ErrNoTask
	}
	return err
}

// cleanName returns s without what could lead out of a directory.
func cleanName(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			out = append(out, r)
		}
	}
	return string(out)
}
