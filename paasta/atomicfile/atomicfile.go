// Package atomicfile replaces files in one step: whoever reads one sees the old
// text or the new one, whole, whenever the writer dies.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write makes data the content of the file at path.
func Write(path string, data []byte, mode fs.FileMode) error {
	return WriteFunc(path, mode, func(w *bufio.Writer) { _, _ = w.Write(data) }) // an error stays with w
}

// WriteFunc makes what write writes the content of the file at path. When that
// fails the file stays as it was.
func WriteFunc(path string, mode fs.FileMode, write func(*bufio.Writer)) error {
	return replace(path, mode, write, func(*os.File) error { return nil })
}

// WriteSynced is Write for what must be on the disk before it takes the place of
// the old: a crash of the machine leaves either, whole.
func WriteSynced(path string, data []byte, mode fs.FileMode) error {
	return replace(path, mode, func(w *bufio.Writer) { _, _ = w.Write(data) }, (*os.File).Sync)
}

func replace(path string, mode fs.FileMode, write func(*bufio.Writer), sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	w := bufio.NewWriterSize(f, 64<<10)
	write(w)
	if err := errors.Join(w.Flush(), f.Chmod(mode), sync(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
