package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Line is one line of a task's output. Files hold no times: a line that was
// there has the time of the file's last change, a new one that of its reading.
type Line struct {
	Time   time.Time
	Stream string // stdout or stderr
	Text   string
}

// Logs sends the last lines (all for a negative number) of each wanted stream to
// send, and with follow what comes after, until ctx or the process ends or send
// fails.
func (r *Runner) Logs(ctx context.Context, id string, stdout, stderr, follow bool, lines int, send func(Line) error) error {
	var tails []*tail
	for stream, wanted := range map[string]bool{"stdout": stdout, "stderr": stderr} {
		if !wanted {
			continue
		}
		f, err := os.Open(filepath.Join(r.o.Sandboxes, id, stream))
		if err != nil {
			return err
		}
		defer f.Close()
		tails = append(tails, &tail{f: f, r: bufio.NewReaderSize(f, 64<<10), stream: stream})
	}
	for _, t := range tails {
		if err := t.last(lines, send); err != nil {
			return err
		}
	}
	for follow {
		r.mu.Lock()
		_, lives := r.procs[id]
		r.mu.Unlock()
		for _, t := range tails {
			if err := t.more(time.Now, send); err != nil {
				return err
			}
		}
		if !lives {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// A tail reads a file that grows.
type tail struct {
	f      *os.File
	r      *bufio.Reader
	stream string
	part   string // of a line whose end is not written yet
}

// last sends the last n lines that are there.
func (t *tail) last(n int, send func(Line) error) error {
	info, err := t.f.Stat()
	if err != nil {
		return err
	}
	var lines []Line
	keep := func(l Line) error {
		lines = append(lines, l)
		if n >= 0 && len(lines) > 2*n+1000 {
			lines = append(lines[:0], lines[len(lines)-n:]...)
		}
		return nil
	}
	if err := t.more(info.ModTime, keep); err != nil {
		return err
	}
	if n >= 0 && len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for _, l := range lines {
		if err := send(l); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) more(now func() time.Time, send func(Line) error) error {
	for {
		text, err := t.r.ReadString('\n')
		t.part += text
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		line := Line{now(), t.stream, strings.TrimRight(t.part, "\r\n")}
		t.part = ""
		if err := send(line); err != nil {
			return err
		}
	}
}
