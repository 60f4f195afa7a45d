package soaconfig

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Files that are none: each is one clear problem, and the rest of the service
// goes on.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web/marathon-norcal.yaml", "main: {}\n")
	put(t, dir, "web/marathon-sfo.yaml", "\x00\x01\x02")
	put(t, dir, "web/marathon-sjc.yaml", "main: {cmd: \"\xff\xfe\"}\n")
	put(t, dir, "web/marathon-huge.yaml", "")
	put(t, dir, "web/marathon-long.yaml", strings.Repeat("# filling\n", maxFile/10+1))
	put(t, dir, "web/marathon-deep.yaml", strings.Repeat("[", 20_000))
	put(t, dir, "web/marathon-nest.yaml", "main: {autoscaling: {x: "+strings.Repeat("[", 100)+strings.Repeat("]", 100)+"}}\n")
	put(t, dir, "web/marathon-dir.yaml/file", "")
	put(t, dir, "web/monitoring.yaml", "team: a\n")
	// 100 MB, none of it on disk.
	if err := os.Truncate(filepath.Join(dir, "web/marathon-huge.yaml"), 100<<20); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "web/marathon-fifo.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"web/marathon-loop.yaml": "marathon-loop.yaml", "web/marathon-gone.yaml": "nowhere", "web/marathon-null.yaml": "/dev/zero",
		"loop": "loop", "gone": "nowhere", "linked": "web", "web/again": "..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	started := time.Now()
	tree, err := Load(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	var lines []string
	for _, p := range tree.Problems {
		if s := strings.ReplaceAll(p.String(), dir+"/", ""); !strings.HasPrefix(s, "linked/") {
			lines = append(lines, s)
		}
	}
	want := []string{
		"gone: cannot be read: no such file or directory",
		"loop: cannot be read: too many levels of symbolic links",
		"web/marathon-deep.yaml:1:10001: is no YAML: exceeded max depth of 10000 (while increasing flow level, line 1)",
		"web/marathon-dir.yaml: is a directory and no file",
		"web/marathon-fifo.yaml: is a named pipe and no file",
		"web/marathon-gone.yaml: is a link to nothing",
		"web/marathon-huge.yaml: is 104857600 bytes long; files of up to 1048576 are read",
		"web/marathon-long.yaml: is 1048580 bytes long; files of up to 1048576 are read",
		"web/marathon-loop.yaml: cannot be read: too many levels of symbolic links",
		"web/marathon-nest.yaml:1:73: main.autoscaling.x: is nested more than 50 deep",
		"web/marathon-null.yaml: is a device and no file",
		"web/marathon-sfo.yaml:1:1: is no YAML: a zero byte",
		"web/marathon-sjc.yaml:1:14: is no YAML: byte 0xff is not part of any UTF-8 text",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if _, ok := tree.Services["web"].Instances["norcal"].Valid["main"]; !ok {
		t.Error("the sound file is not sound any more")
	}
	if _, found, err := tree.Services["web"].Instances["huge"].Find("main"); !found || err == nil {
		t.Errorf("an unreadable file must not say that an instance is gone: %v, %v", found, err)
	}
	if _, ok := tree.Services["linked"].Instances["norcal"].Valid["main"]; !ok {
		t.Error("a link to a service is no service")
	}
}

// Without permission nobody may conclude that anything is gone.
func TestNoPermission(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web/marathon-norcal.yaml", "main: {}\n")
	put(t, dir, "web/smartstack.yaml", "main: {}\n")
	put(t, dir, "api/marathon-norcal.yaml", "main: {}\n")
	for path, mode := range map[string]os.FileMode{"web": 0, "api/marathon-norcal.yaml": 0} {
		if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	for path := dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		// Root may read everything; this thread, which is then thrown away, may not.
		runtime.LockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setfsuid(0) }() // so that the rest of the process is as before
	}
	web := parseService(dir, "web", Options{Clusters: []string{"norcal"}})
	if got, want := web.Problems.Error(), filepath.Join(dir, "web")+": cannot be read: permission denied"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, found, err := web.Instances["norcal"].Find("main"); !found || err == nil {
		t.Errorf("instance: found %v, %v", found, err)
	}
	if _, found, err := web.Namespaces.Find("main"); !found || err == nil {
		t.Errorf("namespace: found %v, %v", found, err)
	}
	api := parseService(dir, "api", Options{})
	if got, want := api.Problems.Error(), filepath.Join(dir, "api/marathon-norcal.yaml")+": cannot be read: permission denied"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, found, err := api.Instances["norcal"].Find("main"); !found || err == nil {
		t.Errorf("instance: found %v, %v", found, err)
	}
}

func TestLoadFails(t *testing.T) {
	if _, err := Load(t.Context(), filepath.Join(t.TempDir(), "none"), Options{}); err == nil {
		t.Error("loaded a directory that is not there")
	}
	dir := t.TempDir()
	put(t, dir, "file", "")
	if _, err := LoadService(dir, "none", Options{}); err == nil {
		t.Error("loaded a service that is not there")
	}
	if _, err := LoadService(dir, "../x", Options{}); err == nil {
		t.Error("loaded a path")
	}
	if _, err := LoadService(dir, "file", Options{}); err == nil {
		t.Error("loaded a file")
	}
}

// A service alone is checked as it is in its tree, but for clashes of ports.
func TestLoadService(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web/marathon-norcal.yaml", "main: {registrations: [api.main, api.mian, gone.main]}\n")
	put(t, dir, "api/smartstack.yaml", "main: {proxy_port: 20001}\n")
	put(t, dir, "other/smartstack.yaml", "main: {proxy_port: 20001}\n")
	s, err := LoadService(dir, "web", Options{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Load(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Problems.Error(), tree.Services["web"].Problems.Error(); got != want || len(s.Problems) != 2 {
		t.Errorf("alone:\n%s\nin its tree:\n%s", got, want)
	}
	if _, ok := s.Instances["norcal"].Valid["main"]; !ok {
		t.Error("what other services lack breaks this one")
	}
}
