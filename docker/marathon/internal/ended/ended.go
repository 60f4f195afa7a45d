// Package ended keeps the output of tasks that have ended, in a directory with
// bounds: 2 MiB a task, 256 MiB in all, a week. When there is no room, the app
// that takes most of it loses its oldest task, so that one in a crash loop does
// not push out the others.
//
// A task is one file of JSON lines: how it ended, with the size of the rest, and
// then its output. It is written beside and renamed, and is there as a whole or
// not at all; one that something else has damaged is left out.
package ended

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/api"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/paasta/atomicfile"
)

// Bounds of what is kept of one task; as many lines as anybody can ask for.
const (
	MaxLines = 10_000
	MaxBytes = 2 << 20
)

const (
	maxAll  = 256 << 20
	maxAge  = 7 * 24 * time.Hour
	maxLine = 64 << 10
	// leastRoom is what a task counts for however little it said: it bounds how
	// many there are.
	leastRoom = 64 << 10
	suffix    = ".jsonl"
	halfMade  = "." // begins the name of a file that atomicfile had not finished
)

// A Ring is the directory.
type Ring struct {
	dir string
	log *slog.Logger
	max int64 // room for all

	mu    sync.Mutex
	tasks []head // oldest first
}

// A head is the first line of a file.
type head struct {
	core.Ended
	Bytes int64 `json:"bytes"` // of the lines behind it
}

func (h head) room() int64 { return max(h.Bytes, leastRoom) }

// Open opens the ring in dir, or makes it. Files that are broken are removed.
func Open(dir string, log *slog.Logger) (*Ring, error) {
	r := &Ring{dir: dir, log: log, max: maxAll}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		id, ours := strings.CutSuffix(f.Name(), suffix)
		switch {
		case strings.HasPrefix(f.Name(), halfMade):
			r.remove(path)
		case ours:
			h, _, err := read(path, false)
			if err == nil && h.ID != id {
				err = fmt.Errorf("it is of task %q", h.ID)
			}
			if err != nil {
				log.Warn("the output of a task that has ended is broken, and removed", "path", path, "err", err)
				r.remove(path)
				continue
			}
			r.tasks = append(r.tasks, h)
		}
	}
	slices.SortFunc(r.tasks, func(a, b head) int { return a.Ended.Ended.Compare(b.Ended.Ended) })
	r.prune(0)
	return r, nil
}

// Cut shortens a line that is too long.
func Cut(l api.LogLine) api.LogLine {
	if len(l.Message) > maxLine {
		l.Message = strings.ToValidUTF8(l.Message[:maxLine], "") + "…"
	}
	return l
}

// Keep keeps the output of a task: of all lines, the last that there is room for.
func (r *Ring) Keep(e core.Ended, lines []api.LogLine) error {
	slices.SortStableFunc(lines, func(a, b api.LogLine) int { return a.Time.Compare(b.Time) })
	lines = lines[max(0, len(lines)-MaxLines):]
	var kept [][]byte
	h := head{Ended: e}
	for _, l := range slices.Backward(lines) {
		text, err := json.Marshal(Cut(l))
		if err != nil {
			return err
		}
		if h.Bytes+int64(len(text))+1 > MaxBytes {
			break
		}
		kept = append(kept, append(text, '\n'))
		h.Bytes += int64(len(text)) + 1
	}
	slices.Reverse(kept)
	first, err := json.Marshal(h)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tasks = slices.DeleteFunc(r.tasks, func(t head) bool { return t.ID == e.ID })
	r.prune(h.room())
	if err := atomicfile.WriteSynced(r.path(e.ID), slices.Concat(first, []byte("\n"), bytes.Join(kept, nil)), 0o600); err != nil {
		return err
	}
	at, _ := slices.BinarySearchFunc(r.tasks, h, func(a, b head) int { return a.Ended.Ended.Compare(b.Ended.Ended) })
	r.tasks = slices.Insert(r.tasks, at, h)
	return nil
}

func (r *Ring) path(id string) string { return filepath.Join(r.dir, filepath.Base(id)+suffix) }

func (r *Ring) remove(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("remove the output of an ended task failed", "path", path, "err", err)
	}
}

// prune drops what is too old, and then makes room for so many bytes more.
func (r *Ring) prune(more int64) {
	drop := func(i int) {
		r.remove(r.path(r.tasks[i].ID))
		r.tasks = slices.Delete(r.tasks, i, i+1)
	}
	for len(r.tasks) > 0 && time.Since(r.tasks[0].Ended.Ended) > maxAge {
		drop(0)
	}
	for len(r.tasks) > 0 {
		all, byApp, most := more, map[string]int64{}, ""
		for _, t := range r.tasks {
			all += t.room()
			byApp[t.AppID] += t.room()
			if byApp[t.AppID] > byApp[most] {
				most = t.AppID
			}
		}
		if all <= r.max {
			return
		}
		drop(slices.IndexFunc(r.tasks, func(t head) bool { return t.AppID == most }))
	}
}

// List returns the tasks whose output is kept, oldest first.
func (r *Ring) List() []core.Ended {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(0)
	list := make([]core.Ended, len(r.tasks))
	for i, t := range r.tasks {
		list[i] = t.Ended
	}
	return list
}

// Lines returns the output of a task, fs.ErrNotExist when it is not kept.
func (r *Ring) Lines(id string) ([]api.LogLine, error) {
	_, lines, err := read(r.path(id), true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("the output of a task that has ended is broken", "path", r.path(id), "err", err)
		return nil, fs.ErrNotExist
	}
	return lines, err
}

// read reads a file, or only its head.
func read(path string, all bool) (h head, lines []api.LogLine, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, nil, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	first, err := in.ReadBytes('\n')
	if err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(first, &h); err != nil {
		return h, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return h, nil, err
	}
	if has, want := info.Size(), int64(len(first))+h.Bytes; has != want {
		return h, nil, fmt.Errorf("it has %d bytes, not %d", has, want)
	}
	for d := json.NewDecoder(in); all && d.More(); {
		var l api.LogLine
		if err := d.Decode(&l); err != nil {
			return h, nil, err
		}
		lines = append(lines, l)
	}
	return h, lines, nil
}
