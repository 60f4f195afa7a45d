package nerve

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// addDirs watches the directories again. One that does not exist yet is found
// by the next resync; adding one twice changes nothing.
func addDirs(w *fsnotify.Watcher, dirs ...string) {
	for _, dir := range dirs {
		_ = w.Add(dir) // not there yet, or too many watches: the resync reads it anyway
	}
}

// debounce lets a burst of events pass, for at most a few milliseconds, so that a
// copy of ten files is one reading.
func debounce(ctx context.Context, events <-chan fsnotify.Event, errs <-chan error) {
	quiet := time.NewTimer(20 * time.Millisecond)
	defer quiet.Stop()
	for {
		select {
		case <-events:
		case err := <-errs:
			_ = err // everything is read anyway
		case <-quiet.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// files are those of a directory. One that looks as it did when it was read is not
// read again.
type files struct {
	dir   string
	known map[string]reading // by path
}

// A reading is what a file said.
type reading struct {
	info     fs.FileInfo
	service  soaconfig.LocalService
	problems soaconfig.Problems
}

// forget makes the next read read every file: an event knows better than its
// size and time whether a file has changed.
func (f *files) forget() { f.known = nil }

// read reads the directory, and returns the services by name and what is wrong
// with files by path. One that does not exist has no files.
func (f *files) read() (services map[string]soaconfig.LocalService, problems map[string]soaconfig.Problems, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	services, problems = map[string]soaconfig.LocalService{}, map[string]soaconfig.Problems{}
	read := make(map[string]reading, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		switch extension := filepath.Ext(name); {
		case strings.HasPrefix(name, "."), extension != ".yaml" && extension != ".yml" && extension != ".json":
			continue
		}
		file := filepath.Join(f.dir, name)
		r := f.readOne(file)
		read[file] = r
		found := append(r.problems.Of(soaconfig.Broken), r.problems.Of(soaconfig.Wrong)...)
		if first, ok := services[r.service.Name]; ok && !broken(found) {
			found = append(found, soaconfig.Problem{File: file, Text: first.File + " describes a service of the same name"})
		}
		if len(found) > 0 {
			problems[file] = found
		}
		if !broken(found) {
			services[r.service.Name] = r.service
		}
	}
	f.known = read
	return services, problems, nil
}

// broken tells whether a file with these problems describes no service.
func broken(p soaconfig.Problems) bool { return len(p.Of(soaconfig.Broken)) > 0 }

func (f *files) readOne(file string) reading {
	info, err := os.Stat(file) // before it is read: what changes in between shows the next time
	if err != nil {
		info = nil // gone or not readable: its reading says so
	}
	if old, ok := f.known[file]; ok && info != nil && old.info != nil &&
		os.SameFile(info, old.info) && info.Size() == old.info.Size() && info.ModTime().Equal(old.info.ModTime()) && info.Mode() == old.info.Mode() {
		return old
	}
	service, problems := soaconfig.ReadLocalService(file)
	return reading{info, service, problems}
}
