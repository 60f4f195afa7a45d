package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// converse runs git-upload-pack or git-receive-pack where the repository is and
// talks to it. What the program says on stderr explains a failure.
func (r *Remote) converse(ctx context.Context, service string, talk func(in io.Writer, out *pktReader) error) error {
	cmd := r.program(ctx, service)
	cmd.Env = append(os.Environ(), "GIT_PROTOCOL=version=2", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	cmd.WaitDelay = time.Second
	said := &tail{}
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = talk(in, newPktReader(out))
	_ = in.Close() // the program may have ended
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(out, maxBytes))
	}
	if err != nil && cmd.Process != nil {
		// A half-finished conversation may leave it waiting for us.
		time.AfterFunc(time.Second, func() { _ = cmd.Process.Kill() })
	}
	wait := cmd.Wait()
	if err == nil && wait != nil {
		err = fmt.Errorf("%w: %s: %w", ErrUnreachable, service, wait)
	}
	text := said.String()
	switch {
	case err == nil || text == "":
		return err
	case errors.Is(err, ErrUnreachable) && denied(text):
		return fmt.Errorf("%w: %s", ErrRefused, text)
	case errors.Is(err, errSilent): // in the protocol's words, but not in these
		return fmt.Errorf("%w: %s", ErrUnreachable, text)
	}
	return fmt.Errorf("%w: %s", err, text)
}

// denied tells whether git or ssh ended because it may not go on, whoever asks
// again.
func denied(text string) bool {
	for _, words := range []string{"detected dubious ownership", "Permission denied", "Host key verification failed", "Repository not found", "access denied", "not authorized"} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(words)) {
			return true
		}
	}
	return false
}

// program is the command that runs service at the repository.
func (r *Remote) program(ctx context.Context, service string) *exec.Cmd {
	if r.scheme == "file" {
		return exec.CommandContext(ctx, "git", strings.TrimPrefix(service, "git-"), r.path)
	}
	host := r.host
	if r.user != nil {
		host = r.user.Username() + "@" + host
	}
	args := []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "SendEnv=GIT_PROTOCOL"}
	if r.port != "" {
		args = append(args, "-p", r.port)
	}
	args = append(args, host, service+" '"+strings.ReplaceAll(r.path, "'", `'\''`)+"'")
	if command := os.Getenv("GIT_SSH_COMMAND"); command != "" {
		return exec.CommandContext(ctx, "sh", append([]string{"-c", command + ` "$@"`, "ssh"}, args...)...)
	}
	ssh := os.Getenv("GIT_SSH")
	if ssh == "" {
		ssh = "ssh"
	}
	return exec.CommandContext(ctx, ssh, args...)
}

func (r *Remote) listProgram(ctx context.Context, prefixes []string) (*listing, error) {
	var l *listing
	err := r.converse(ctx, "git-upload-pack", func(in io.Writer, out *pktReader) error {
		var err error
		if l, err = readAdvertisement(out, prefixes); err != nil {
			return err
		}
		if l.version2 {
			if _, err := io.WriteString(in, lsRefs(prefixes)); err != nil {
				return fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			if l, err = readRefs(out, prefixes); err != nil {
				return err
			}
		}
		_, err = io.WriteString(in, flush) // nothing more
		return err
	})
	return l, err
}

func (r *Remote) pushProgram(ctx context.Context, tags []paasta.Tag) error {
	return r.converse(ctx, "git-receive-pack", func(in io.Writer, out *pktReader) error {
		l, err := readAdvertisement(out, []string{paasta.TagRefPrefix})
		if err != nil {
			return err
		}
		request, err := updates(l, tags)
		if err != nil {
			_, _ = io.WriteString(in, flush) // a polite end
			return err
		}
		if _, err := in.Write(request); err != nil && !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return readReport(out, l)
	})
}

// tail keeps the end of what is written to it.
type tail struct{ b bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	if t.b.Len() > 8<<10 {
		t.b.Reset()
	}
	return t.b.Write(p)
}

// String returns the last line, on which programs name the cause.
func (t *tail) String() string {
	var lines []string
	for line := range strings.SplitSeq(t.b.String(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
