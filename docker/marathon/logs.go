package marathon

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gopaasta/paasta/docker/marathon/internal/api"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/ended"
	"github.com/gopaasta/paasta/docker/marathon/internal/engine"
	"github.com/gopaasta/paasta/docker/marathon/internal/process"
)

// logs finds a task's output: where it runs, or, of one that has ended, where it
// is kept.
func (s *server) logs(ctx context.Context, id string, q api.LogQuery, send func(api.LogLine) error) error {
	if core.AppOfTask(id) == "" || id != cleanName(id) {
		return api.ErrNoTask
	}
	var process, ran bool
	var handle string
	err := s.do(ctx, func(m *core.Machine, _ time.Time) { process, handle, ran = m.Runner(id) })
	if err != nil {
		return err
	}
	if ran {
		if err := s.runnerLogs(ctx, id, process, handle, q, send); !errors.Is(err, api.ErrNoTask) {
			return err
		}
	}
	return missing(s.keptLogs(id, q, send))
}

// keptLogs sends the output of a task that has ended, fs.ErrNotExist when that
// is not kept.
func (s *server) keptLogs(id string, q api.LogQuery, send func(api.LogLine) error) error {
	lines, err := s.ended.Lines(id)
	if err != nil {
		return err
	}
	lines = slices.DeleteFunc(lines, func(l api.LogLine) bool {
		return l.Stream == "stdout" && !q.Stdout || l.Stream == "stderr" && !q.Stderr
	})
	if q.Lines >= 0 {
		lines = lines[max(0, len(lines)-q.Lines):]
	}
	for _, l := range lines {
		if err := send(l); err != nil {
			return err
		}
	}
	return nil
}

// runnerLogs sends the output of a task from its process or container.
func (s *server) runnerLogs(ctx context.Context, id string, ofProcess bool, handle string, q api.LogQuery, send func(api.LogLine) error) error {
	if ofProcess {
		return missing(s.process.Logs(ctx, id, q.Stdout, q.Stderr, q.Follow, q.Lines, func(l process.Line) error {
			return send(api.LogLine{Time: l.Time.UTC(), Stream: l.Stream, Message: l.Text})
		}))
	}
	return missing(s.engine.Logs(ctx, handle, id, q.Stdout, q.Stderr, q.Follow, q.Lines, func(l engine.Line) error {
		return send(api.LogLine{Time: l.Time.UTC(), Stream: l.Stream, Message: l.Text})
	}))
}

// keep puts the output of tasks that have ended into the ring, until ctx ends.
// Which are to be kept is stored with their end, so none is missed.
func (s *server) keep(ctx context.Context) error {
	for {
		var list []core.Ended
		err := s.do(ctx, func(m *core.Machine, _ time.Time) { list = m.Unkept() })
		if err == nil {
			for _, e := range list {
				if !s.keepOne(ctx, e) {
					continue
				}
				if err := s.do(ctx, func(m *core.Machine, _ time.Time) { m.Kept(e.ID) }); err != nil {
					break
				}
			}
		}
		select {
		case <-s.unkept:
		case <-time.After(10 * time.Second): // for those that could not be read
		case <-ctx.Done():
			return nil
		}
	}
}

// keepOne keeps the output of one task; false says that it must be tried again.
func (s *server) keepOne(ctx context.Context, e core.Ended) bool {
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var lines []api.LogLine
	size := 0
	q := api.LogQuery{Stdout: true, Stderr: true, Lines: ended.MaxLines}
	err := s.runnerLogs(within, e.ID, e.Process, e.Handle, q, func(l api.LogLine) error {
		l = ended.Cut(l)
		lines, size = append(lines, l), size+len(l.Message)
		for ; size > ended.MaxBytes; lines = lines[1:] {
			size -= len(lines[0].Message)
		}
		return nil
	})
	if ctx.Err() != nil {
		return false
	}
	if err != nil && !errors.Is(err, api.ErrNoTask) {
		if time.Since(e.Ended) < time.Hour {
			return false // the Docker Engine is away
		}
		s.log.Warn("read the output of an ended task failed", "task", e.ID, "err", err)
	}
	if err := s.ended.Keep(e, lines); err != nil {
		s.log.Warn("keep the output of an ended task failed", "task", e.ID, "err", err)
	}
	return true
}

// over tells whether nobody needs what is left of a task.
func (s *server) over(id string) bool {
	over := false
	err := s.do(s.ctx, func(m *core.Machine, _ time.Time) { over = m.Over(id) })
	return err == nil && over
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
