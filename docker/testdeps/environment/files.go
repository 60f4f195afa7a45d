package environment

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/command"
)

// files copies a node's fixtures into its container. They are copied and not
// mounted, so that a test cannot change them and the engine may be elsewhere.
func (u *up) files(ctx context.Context, n *graph.Node, id string) error {
	if len(n.Dep.Files) == 0 {
		return nil
	}
	from := map[string]string{}
	for file := range n.Dep.Files {
		var err error
		if from[file], err = u.fixture(n, file); err != nil {
			return err
		}
	}
	// As the engine takes it: a dump may be larger than this machine's memory.
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		for _, file := range slices.Sorted(maps.Keys(from)) {
			if err := pack(t, from[file], strings.TrimPrefix(path.Clean(n.Dep.Files[file]), "/")); err != nil {
				w.CloseWithError(fmt.Errorf("fixture %s: %w", file, err))
				return
			}
		}
		w.CloseWithError(t.Close())
	}()
	err := u.e.docker.CopyToContainer(ctx, id, "/", r, container.CopyToContainerOptions{})
	r.Close() // for who writes
	if err != nil {
		return fmt.Errorf("copy its fixtures: %w", err)
	}
	return nil
}

// fixture finds a file of a declaration: in the service's repository, which of
// another service is not at hand unless it is built here, or else in the
// service's directory of soa-configs, which everybody has.
func (u *up) fixture(n *graph.Node, file string) (string, error) {
	if filepath.IsAbs(file) {
		return file, nil
	}
	var dirs []string
	if n.Owner.Name == u.o.Service {
		dirs = append(dirs, u.o.Dir)
	}
	for _, other := range u.g.Nodes {
		if other.Service != nil && other.Service.Name == n.Owner.Name && other.Dep.Build != "" {
			dirs = append(dirs, filepath.Join(u.o.Dir, other.Dep.Build))
		}
	}
	dirs = append(dirs, n.Owner.Dir)
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return filepath.Join(dir, file), nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", command.WithHint(fmt.Errorf("its fixture %s is not in %s", file, strings.Join(dirs, ", nor in ")),
		fmt.Sprintf("put the file beside %s, where everybody who tests with %s finds it; or run this in the repository of %s, or say build for it", n.Owner.TestDeps.File, n.Owner.Name, n.Owner.Name))
}

// pack adds a file, or a directory with all that is in it.
func pack(w *tar.Writer, from, to string) error {
	return filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		name := path.Join(to, filepath.ToSlash(inside))
		if entry.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
		}
		return packFile(w, file, name)
	})
}

func packFile(w *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file, nor a directory", file)
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime()}); err != nil {
		return err
	}
	// One that grows meanwhile is as long as it was.
	_, err = io.CopyN(w, f, info.Size())
	return err
}
