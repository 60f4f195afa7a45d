package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A disk is a small file system of its own, on which a host has its state.
type disk struct {
	t   testing.TB
	dir string
}

// newDisk mounts a tmpfs on a host's state directory.
func newDisk(h *host) disk {
	h.t.Helper()
	paastatest.NeedRoot(h.t)
	dir := h.options.Process.Dir
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=200"); err != nil {
		paastatest.Missing(h.t, "mount a tmpfs: %v", err)
	}
	h.t.Cleanup(func() {
		if err := h.options.Process.Stop(context.Background()); err != nil {
			h.t.Error(err)
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			h.t.Error(err)
		}
	})
	return disk{h.t, dir}
}

// fill leaves no room.
func (d disk) fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "filling"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{4096, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal(err)
		}
		err = nil
	}
}

// fillInodes leaves room for no file more.
func (d disk) fillInodes() {
	d.t.Helper()
	for n := 0; ; n++ {
		err := os.Mkdir(filepath.Join(d.dir, fmt.Sprintf("filling%d", n)), 0o700)
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d disk) remount(flags uintptr) {
	d.t.Helper()
	if err := syscall.Mount("", d.dir, "", syscall.MS_REMOUNT|flags, "size=1m,nr_inodes=200"); err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) free() {
	d.t.Helper()
	d.remount(0)
	all, err := filepath.Glob(filepath.Join(d.dir, "filling*"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, path := range all {
		if err := os.Remove(path); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Without room on the disk, an agent starts from what is there, says so, and
// makes good for it once there is room.
func TestStartsWithoutRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fill   func(disk)
		reboot bool // no HAProxy runs
	}{
		"full":               {disk.fill, false},
		"full, after a boot": {disk.fill, true},
		"no inodes":          {disk.fillInodes, false},
		"read-only":          {func(d disk) { d.remount(syscall.MS_RDONLY) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := newMemory()
			h := newHost(t, reg)
			d := newDisk(h)
			h.service("web.main", nil)
			a, b := newBackend(t), newBackend(t)
			reg.put("web.main", a.entry())
			h.start()
			h.up("web.main", a.port)
			h.stop()
			if tt.reboot {
				if err := h.options.Process.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			// A file that this version would write anew.
			if err := os.WriteFile(filepath.Join(d.dir, "delay.lua"), []byte("-- of an older version\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			tt.fill(d)
			h.start()
			h.up("web.main", a.port)
			stop := load(t, h.url("web.main"), 2)
			reg.put("web.main", a.entry(), b.entry())
			h.up("web.main", a.port, b.port)
			said := func(want bool) {
				t.Helper()
				eventually(t, func() error {
					if p := h.agent.Status().Problems["state_dir"]; strings.Contains(p, "make room") != want {
						return fmt.Errorf("state_dir: %q", p)
					}
					return nil
				})
			}
			said(true)
			d.free()
			h.service("more.main", nil) // which takes a reload
			reg.put("more.main", b.entry())
			h.up("more.main", b.port)
			said(false)
			sent, failures := stop()
			unharmed(t, sent, failures)
		})
	}
}
