package store

import (
	"os"
	"syscall"
)

// sync brings a file's data, and what is needed to find it, to the disk.
func sync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
