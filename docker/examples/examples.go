// Package examples carries the source of the example services in the paasta
// binary, for the demo, which makes a repository of its own of one of them.
package examples

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gopaasta/paasta/paasta/metrics"
)

//go:embed all:hello all:visits
var sources embed.FS

// library is the package that examples use, which comes along with them: a
// repository of its own has no way to get at ours.
const library = "github.com/gopaasta/paasta/paasta/metrics/dropwizard"

// Write puts the source of an example ("hello", "visits") into dir, which it makes, with
// the go.mod and the package of metrics that it needs outside this module. Files
// that are there already are overwritten.
func Write(name, dir string) error {
	source, err := fs.Sub(sources, name)
	if err != nil {
		return err
	}
	if err := write(source, dir, name); err != nil {
		return fmt.Errorf("write example %s: %w", name, err)
	}
	along, err := fs.Sub(metrics.Sources, "dropwizard")
	if err != nil {
		return err
	}
	if err := write(along, filepath.Join(dir, "dropwizard"), name); err != nil {
		return fmt.Errorf("write example %s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+name+"\n\ngo 1.26\n"), 0o644)
}

// write copies source to dir, for a module of the given name.
func write(source fs.FS, dir, module string) error {
	return fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		target := filepath.Join(dir, filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path == "bin":
			return fs.SkipDir // what a build in the source tree left there
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		}
		text, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte(library), []byte(module+"/dropwizard"))
		if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, text) {
			return nil
		}
		return os.WriteFile(target, text, 0o644)
	})
}
