package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/process"
)

// remoteName is what git's configuration calls the repository while one of our
// commands runs: so its address, which may hold a password, is no argument that
// others can see.
const remoteName = "paasta"

// localVariables bind git to the repository whose hook runs us.
var localVariables = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_QUARANTINE_PATH"}

// environment is ours, for a git that asks nobody and speaks English.
func (r *Remote) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(localVariables, name) || name == "GIT_CONFIG_COUNT"
	})
	n, _ := strconv.Atoi(os.Getenv("GIT_CONFIG_COUNT"))
	env = append(env, "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "SSH_ASKPASS=true", "LC_ALL=C", "GIT_PROTOCOL=version=2",
		fmt.Sprintf("GIT_CONFIG_COUNT=%d", n+1), fmt.Sprintf("GIT_CONFIG_KEY_%d=remote.%s.url", n, remoteName), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, r.address))
	if os.Getenv("GIT_SSH_COMMAND") == "" && os.Getenv("GIT_SSH") == "" {
		env = append(env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes -o ConnectTimeout=10")
	}
	return env
}

// command is a program that ends, with those that it has started, when ctx does.
func (r *Remote) command(ctx context.Context, name string, args ...string) (cmd *exec.Cmd, stderr *process.Tail) {
	cmd, stderr = exec.CommandContext(ctx, name, args...), &process.Tail{Max: 8 << 10}
	cmd.Env, cmd.Stderr, cmd.WaitDelay = r.environment(), stderr, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd, stderr
}

// git runs git and returns what it prints.
func (r *Remote) git(ctx context.Context, args ...string) (string, error) {
	cmd, stderr := r.command(ctx, "git", args...)
	out, err := cmd.Output()
	return string(out), r.explain(err, stderr)
}

// explain gives the failure of a program its class, by what the program says.
func (r *Remote) explain(err error, stderr *process.Tail) error {
	text := cause(stderr)
	if password, ok := r.user.Password(); ok && password != "" {
		text = strings.ReplaceAll(text, password, "xxxxx")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install git, which this needs", err)
	case denied(text):
		return fmt.Errorf("%w: %s", ErrRefused, text)
	case text == "":
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, text)
}

// denied tells whether git or ssh ended because it may not go on, whoever asks
// again.
func denied(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc([]string{
		"detected dubious ownership", "permission denied", "host key verification failed", "repository not found", "access denied", "not authorized",
		"authentication failed", "could not read username", "could not read password", "returned error: 401", "returned error: 403", "returned error: 404",
	}, func(words string) bool { return strings.Contains(text, words) }) || strings.HasSuffix(text, "' not found")
}

// noCause is what git adds to whatever ssh or the other side said.
var noCause = []string{
	"fatal: Could not read from remote repository.", "Please make sure you have the correct access rights", "and the repository exists.",
	"fatal: the remote end hung up unexpectedly",
}

// cause returns the last lines of what a program said, on which it names the cause.
func cause(stderr *process.Tail) string {
	lines := strings.FieldsFunc(stderr.String(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" || slices.Contains(noCause, line) })
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
