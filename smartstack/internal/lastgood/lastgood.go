// Package lastgood keeps in a file what worked last, so that a process that starts
// during a mistake goes on with what the one before it did.
package lastgood

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gopaasta/paasta/paasta/atomicfile"
)

// A File holds a T as JSON.
type File[T any] struct {
	Path    string // "" for none: nothing is kept
	written []byte // what it holds; nil when nobody knows
}

// Read returns what the file holds, the zero T if there is none.
func (f *File[T]) Read() (T, error) {
	var value T
	if f.Path == "" {
		return value, nil
	}
	text, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return value, nil
	}
	if err != nil {
		return value, err // says the path
	}
	if err := json.Unmarshal(text, &value); err != nil {
		return *new(T), fmt.Errorf("%s: %w", f.Path, err)
	}
	return value, nil
}

// Write replaces what the file holds, if it holds something else.
func (f *File[T]) Write(value T) error {
	if f.Path == "" {
		return nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	if bytes.Equal(text, f.written) {
		return nil
	}
	f.written = nil
	if err := atomicfile.Write(f.Path, text, 0o600); err != nil {
		return err
	}
	f.written = text
	return nil
}
