package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// runTarget runs a target of the Makefile in the current directory, which is
// the service's repository, and shows what it says. When make says no, paasta
// exits with make's code.
func runTarget(ctx context.Context, env *Env, target, tag string) error {
	dir, err := env.getwd()
	if err != nil {
		return err
	}
	engine, err := image.Dial(ctx)
	switch {
	case errors.Is(err, image.ErrSilent):
		return err // docker build would wait for ever
	case err == nil:
		defer engine.Close()
		var stop func()
		ctx, stop = engine.Watch(ctx)
		defer stop()
	}
	// Without an engine, make fails if it needs one, and says so itself.
	env.notef("make %s with DOCKER_TAG=%s", target, tag)
	err = image.Target{Dir: dir, Name: target, DockerTag: tag, Out: env.Out, Err: env.Err}.Make(ctx)
	var exit *exec.ExitError
	switch {
	case errors.Is(err, image.ErrNoTarget):
		return command.WithHint(err, "the service's repository as the current directory; it needs a Makefile with the targets cook-image and itest, see docs/tutorial.md")
	case errors.As(err, &exit):
		env.notef("paasta: %v", err)
		return command.ExitError{Code: exit.ExitCode()}
	}
	return err
}

// imageOf returns the full name of a service's image at a commit.
func imageOf(env *Env, s *soaconfig.Service, sha string) (registry, ref string, err error) {
	registry = s.DockerRegistry
	if registry == "" {
		c, err := env.Config()
		if err != nil {
			return "", "", err
		}
		registry = c.DockerRegistry
	}
	if registry == "" {
		return "", "", command.WithHint(errors.New("no Docker registry is configured"),
			"set docker_registry in the system config, or in the service's service.yaml")
	}
	return registry, registry + "/" + paasta.ImageName(s.Name, sha), nil
}

// localCommit returns a commit's full sha. What is shorter, or a branch, or "" for
// HEAD, is looked up in the repository of the current directory.
func localCommit(ctx context.Context, env *Env, flag string) (string, error) {
	if paasta.IsSHA(flag) {
		return flag, nil
	}
	dir, err := env.getwd()
	if err != nil {
		return "", err
	}
	name := flag
	if name == "" {
		name = "HEAD"
	}
	cmd := exec.CommandContext(ctx, "git", "-C", dir, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 { // about the repository: --quiet is about the commit
		return "", command.WithHint(fmt.Errorf("find commit %s in %s: %s", name, dir, oneLine(string(exit.Stderr))),
			"give a full sha with --commit, or go to the service's repository")
	}
	if err != nil {
		return "", command.WithHint(fmt.Errorf("%s: no such commit in the repository of %s", name, dir),
			"give a full sha with --commit, or go to the service's repository")
	}
	return strings.TrimSpace(string(out)), nil
}
