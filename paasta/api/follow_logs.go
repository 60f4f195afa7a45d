package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
)

// follow writes the lines that come after sent, which began to be read then, until the reader goes or the
// time that it asked for is over.
func (s *server) follow(ctx context.Context, service string, q logQuery, began time.Time, sent []paasta.LogLine, out *logWriter) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !q.to.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, q.to)
		defer cancel()
	}
	lines := make(chan paasta.LogLine)
	send := func(l paasta.LogLine) error {
		select {
		case lines <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the wait
	if q.wantsDeployLog() {
		wg.Go(func() { s.followDeployLog(ctx, service, q, sent, send) })
	}
	if q.wantsOutput() {
		wg.Go(func() { s.followTasks(ctx, service, q, began, sent, send) })
	}

	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		var err error
		// A line came, the connection was silent for long, or the reader has gone.
		select {
		case l := <-lines:
			err = out.write(l)
		case <-alive.C:
			err = out.raw([]byte("\n"))
		case <-ctx.Done():
			return
		}
		if err == nil {
			err = out.flush()
		}
		if err != nil {
			return
		}
	}
}

// followDeployLog sends the lines of the deploy log that are not among sent.
func (s *server) followDeployLog(ctx context.Context, service string, q logQuery, sent []paasta.LogLine, send func(paasta.LogLine) error) {
	last := paasta.LogLine{}
	for _, l := range sent {
		if l.Task == "" && l.Component != componentAPI {
			last = l
		}
	}
	wake := make(chan struct{}, 1)
	said := false // that it cannot be read
	for ctx.Err() == nil {
		data, _, err := s.ZK.WatchData(ctx, paasta.DeployLogPath(s.Cluster, service), wake)
		lines, err := deployLog(data, err)
		pause := time.Minute // in case a watch was lost
		switch {
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			if !said && send(s.line(service, "the deploy log is not read: "+err.Error())) != nil {
				return
			}
			said, pause = true, 2*time.Second
		default:
			said = false
			for _, l := range after(lines, last) {
				last = l
				if q.wants(l) && send(l) != nil {
					return
				}
			}
		}
		select {
		case <-wake:
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// after returns the lines behind last. When last is no longer among them, those
// that are younger.
func after(lines []paasta.LogLine, last paasta.LogLine) []paasta.LogLine {
	for i, l := range slices.Backward(lines) {
		if l.Time.Equal(last.Time) && l.Message == last.Message && l.Instance == last.Instance && l.Component == last.Component {
			return lines[i+1:]
		}
	}
	i := slices.IndexFunc(lines, func(l paasta.LogLine) bool { return l.Time.After(last.Time) })
	if i < 0 {
		return nil
	}
	return lines[i:]
}

// followTasks follows the output of all tasks, also of those that start later,
// and of those that start and end between two looks.
func (s *server) followTasks(ctx context.Context, service string, q logQuery, began time.Time, sent []paasta.LogLine, send func(paasta.LogLine) error) {
	latest := map[string]time.Time{} // of each task, what was sent
	for _, l := range sent {
		if l.Task != "" {
			latest[l.Task] = l.Time
		}
	}
	var mu sync.Mutex
	followed := map[string]bool{}
	var wg sync.WaitGroup
	defer wg.Wait()
	said := ""
	say := func(text string) error {
		if text == said || text == "" {
			said = text
			return nil
		}
		said = text
		return send(s.line(service, text))
	}
	for {
		listCtx, cancel := context.WithTimeout(ctx, marathonWithin)
		tasks, err := s.tasks(listCtx, service, q.instances)
		cancel()
		text := ""
		if err != nil {
			text = "tasks that start are not seen: " + err.Error()
		}
		if ctx.Err() != nil || say(text) != nil {
			return
		}
		for _, t := range tasks {
			mu.Lock()
			known := followed[t.ID]
			since, seen := latest[t.ID]
			if t.ended != nil && !seen && t.ended.Ended.Before(began) {
				known = true
			}
			followed[t.ID] = true
			mu.Unlock()
			if known {
				continue
			}
			wg.Go(func() {
				q := q
				if t.ended != nil {
					q.lines = maxLines // all that it said since
				}
				err := s.output(ctx, service, t, q, true, func(l paasta.LogLine) error {
					if !l.Time.After(since) {
						return nil
					}
					mu.Lock()
					latest[t.ID] = l.Time
					mu.Unlock()
					return send(l)
				})
				if errors.Is(err, marathon.ErrNoOutput) {
					_ = send(s.line(service, err.Error())) // fails only when nobody reads
					return                                 // and stays in followed: it will not be better later
				}
				if l := s.ending(service, t); l != nil {
					if l.Time.After(since) && q.wants(*l) {
						_ = send(*l) // as above
					}
					return // nothing more will come of it
				}
				mu.Lock()
				delete(followed, t.ID) // taken up again at the next look, if it is still there
				mu.Unlock()
			})
		}
		select {
		case <-time.After(tasksEvery):
		case <-ctx.Done():
			return
		}
	}
}
