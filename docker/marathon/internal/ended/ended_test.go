package ended

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/api"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

func open(t *testing.T, dir string) (*Ring, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	r, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return r, &log
}

func keep(t *testing.T, r *Ring, app, id string, age time.Duration, said ...string) {
	t.Helper()
	var lines []api.LogLine
	for i, text := range said {
		lines = append(lines, api.LogLine{Time: time.Unix(int64(i), 0).UTC(), Stream: "stdout", Message: text})
	}
	if err := r.Keep(core.Ended{ID: id, AppID: app, Ended: time.Now().Add(-age)}, lines); err != nil {
		t.Fatal(err)
	}
}

func (r *Ring) ids() string {
	var ids []string
	for _, e := range r.List() {
		ids = append(ids, e.ID)
	}
	return strings.Join(ids, " ")
}

func said(t *testing.T, r *Ring, id string) []string {
	t.Helper()
	lines, err := r.Lines(id)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, l := range lines {
		texts = append(texts, l.Message)
	}
	return texts
}

func TestOutlivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, _ := open(t, dir)
	keep(t, r, "/a", "a.2", time.Minute, "two", "lines")
	keep(t, r, "/a", "a.1", time.Hour)
	keep(t, r, "/a", "a.0", 8*24*time.Hour, "of last week")
	r, log := open(t, dir)
	if got := r.ids(); got != "a.1 a.2" || log.Len() > 0 {
		t.Errorf("kept %q, log %s", got, log)
	}
	if got := said(t, r, "a.2"); !slices.Equal(got, []string{"two", "lines"}) {
		t.Errorf("said %q", got)
	}
	if got := said(t, r, "a.1"); len(got) != 0 {
		t.Errorf("said %q", got)
	}
	for _, id := range []string{"a.0", "unknown"} {
		if _, err := r.Lines(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, _ := open(t, dir)
	var long []string
	for n := range 100 {
		long = append(long, fmt.Sprintf("%02d%s", n, strings.Repeat("x", 50<<10)))
	}
	keep(t, r, "/long", "long.1", 0, append(long, strings.Repeat("ü", maxLine))...)
	got := said(t, r, "long.1")
	if last := got[len(got)-1]; len(last) > maxLine+3 || !strings.HasSuffix(last, "ü…") {
		t.Errorf("the last line has %d bytes", len(last))
	}
	if len(got) > 45 || len(got) < 35 || !strings.HasPrefix(got[len(got)-2], "99x") {
		t.Errorf("%d lines kept, want what fits in 2 MiB of the end", len(got))
	}
	r.max = 4 << 20 // 32 small ones, and the long one
	for n := range 100 {
		keep(t, r, "/crashes", fmt.Sprintf("crashes.%03d", n), time.Hour-time.Duration(n)*time.Second, "no database")
	}
	keep(t, r, "/quiet", "quiet.1", 0, "fine")
	if got := r.ids(); !strings.HasPrefix(got, "crashes.0") || !strings.Contains(got, "crashes.099 ") || !strings.HasSuffix(got, " long.1 quiet.1") {
		t.Errorf("kept %s", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(r.List()) || len(files) > 34 {
		t.Errorf("%d files of %d tasks, %v", len(files), len(r.List()), err)
	}
}

// What a crash of the machine, a disk or a person leaves behind is said once and
// does not keep the rest from being read.
func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, _ := open(t, dir)
	keep(t, r, "/a", "a.good", 0, "said")
	keep(t, r, "/a", "a.torn", 0, "said", "this too")
	keep(t, r, "/a", "a.other", 0, "said")
	keep(t, r, "/a", "a.later", 0, "said")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "a.torn.jsonl"), 250); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "a.other.jsonl"), filepath.Join(dir, "a.moved.jsonl")); err != nil {
		t.Fatal(err)
	}
	write("a.empty.jsonl", "")
	write("a.json.jsonl", "{\n")
	write(halfMade+"1", "{")
	write("notes.txt", "a person's")
	r, log := open(t, dir)
	if got := r.ids(); got != "a.good a.later" {
		t.Errorf("kept %q", got)
	}
	if n := strings.Count(log.String(), "is broken"); n != 4 {
		t.Errorf("%d complaints:\n%s", n, log)
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("left: %v", files)
	}
	log.Reset()
	text, err := os.ReadFile(filepath.Join(dir, "a.later.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	write("a.later.jsonl", strings.Replace(string(text), `{"timestamp"`, `#"timestamp"`, 1))
	if _, err := r.Lines("a.later"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(log.String(), "is broken") {
		t.Errorf("broken after the start: %v, log %s", err, log)
	}
}

// On a full disk nothing is kept, and what was stays.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		paastatest.Missing(t, "a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	r, _ := open(t, dir)
	keep(t, r, "/a", "a.1", 0, "said")
	err := r.Keep(core.Ended{ID: "a.2", AppID: "/a", Ended: time.Now()}, []api.LogLine{
		{Message: strings.Repeat("x", maxLine-1)}, {Message: strings.Repeat("y", maxLine-1)},
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	if got := r.ids(); got != "a.1" || said(t, r, "a.1")[0] != "said" {
		t.Errorf("kept %q", got)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left: %v", files)
	}
}
