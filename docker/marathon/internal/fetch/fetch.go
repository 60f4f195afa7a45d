// Package fetch puts an app's files into a task's sandbox.
package fetch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// All fetches every file of a task's app into the directory.
func All(ctx context.Context, t core.Task, dir string) error {
	for _, f := range t.App.Fetch {
		name := f.DestPath
		if name == "" {
			name = base(f.URI)
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("fetch %s: %q is outside the sandbox", f.URI, name)
		}
		file := filepath.Join(dir, name)
		if err := one(ctx, f.URI, file); err != nil {
			return fmt.Errorf("fetch %s: %w", f.URI, err)
		}
		if f.Executable {
			if err := os.Chmod(file, 0o755); err != nil {
				return err
			}
		} else if f.Extract {
			if err := extract(ctx, file, dir); err != nil {
				return fmt.Errorf("extract %s: %w", f.URI, err)
			}
		}
	}
	return nil
}

func base(uri string) string {
	if u, err := url.Parse(uri); err == nil {
		return path.Base(u.Path)
	}
	return path.Base(uri)
}

func one(ctx context.Context, uri, file string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var from io.ReadCloser
	switch {
	case strings.HasPrefix(uri, "http://"), strings.HasPrefix(uri, "https://"):
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return fmt.Errorf("answered %s", resp.Status)
		}
		from = resp.Body
	case strings.HasPrefix(uri, "file://"), strings.HasPrefix(uri, "/"):
		f, err := os.Open(strings.TrimPrefix(uri, "file://"))
		if err != nil {
			return err
		}
		from = f
	default:
		return fmt.Errorf("unknown scheme: http, https and file are known")
	}
	defer from.Close()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	to, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return err
	}
	return to.Close()
}

// extract unpacks an archive; what is none stays as it is.
func extract(ctx context.Context, file, dir string) error {
	var cmd *exec.Cmd
	switch {
	case strings.HasSuffix(file, ".zip"):
		cmd = exec.CommandContext(ctx, "unzip", "-o", "-q", file, "-d", dir)
	case strings.Contains(filepath.Base(file), ".tar"), strings.HasSuffix(file, ".tgz"), strings.HasSuffix(file, ".tbz2"), strings.HasSuffix(file, ".txz"):
		cmd = exec.CommandContext(ctx, "tar", "--extract", "--file", file, "--directory", dir)
	case strings.HasSuffix(file, ".gz"):
		cmd = exec.CommandContext(ctx, "gunzip", "--force", "--keep", file)
	default:
		return nil
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
