package environment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta/command"
)

// tagOf is a tag that is always the same for one text.
func tagOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// fetch sees that the engine has an image, and pulls it otherwise.
func (e *Engine) fetch(ctx context.Context, t target, report func(state, detail string)) error {
	asking, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	_, err := e.docker.ImageInspect(asking, t.ref)
	if err == nil {
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return explain(fmt.Errorf("look for the image %s: %w", t.ref, err))
	}
	if t.built {
		return fmt.Errorf("make cook-image (%s) built no image called %s: the target has to build with --tag \"$(DOCKER_TAG)\"", t.why, t.ref)
	}
	named, err := reference.ParseNormalizedNamed(t.ref)
	if err != nil {
		return fmt.Errorf("image %s: %w", t.ref, err)
	}
	report("pulling", t.ref)
	err = e.pull(ctx, reference.TagNameOnly(named).String(), reference.Domain(named))
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	tag := "latest"
	if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	err = explain(fmt.Errorf("the engine has no image %s, and the registry %s gives none of the tag %s: %w", t.ref, reference.Domain(named), tag, err))
	var hinted command.HintedError
	switch {
	case errors.As(err, &hinted):
		return err
	case t.why != "":
		return command.WithHint(fmt.Errorf("%w (%s)", err, t.why), "push it (paasta itest and paasta push-to-registry in the service's repository do), or mark a commit whose image is there")
	}
	return command.WithHint(err, "docker pull "+t.ref+" by hand, or build it under that name")
}

// pull fetches an image with the credentials of Docker's configuration.
func (e *Engine) pull(ctx context.Context, ref, domain string) error {
	found, err := image.FindCredentials(ctx, domain)
	if err != nil {
		return err
	}
	auth, err := found.Header()
	if err != nil {
		return err
	}
	return e.docker.Pull(ctx, ref, auth, nil)
}
