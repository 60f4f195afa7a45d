//go:build !linux

package store

import "os"

// sync brings a file to the disk.
func sync(f *os.File) error { return f.Sync() }
