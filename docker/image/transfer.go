package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gopaasta/paasta/docker/internal/daemon"
)

// ErrNotInRegistry says that a registry has no image of that name, or does not
// show it to whom it does not know.
var ErrNotInRegistry = errors.New("the registry has no such image, or not for us")

// A Progress is one line of how a push or a pull goes.
type Progress = daemon.Progress

// Push pushes an image to the registry that its name begins with, and tells
// how it goes.
func (e *Engine) Push(ctx context.Context, ref string, c Credentials, progress func(Progress)) error {
	auth, err := c.Header()
	if err != nil {
		return err
	}
	return e.client.Push(ctx, ref, auth, progress)
}

// Pull fetches an image from the registry that its name begins with, and tells
// how it goes. The error is an ErrNotInRegistry when it is not there.
func (e *Engine) Pull(ctx context.Context, ref string, c Credentials, progress func(Progress)) error {
	auth, err := c.Header()
	if err != nil {
		return err
	}
	err = e.client.Pull(ctx, ref, auth, progress)
	if err != nil && (errdefs.IsNotFound(err) || strings.Contains(err.Error(), "manifest unknown") || strings.Contains(err.Error(), "not found")) {
		return fmt.Errorf("%w: %w", err, ErrNotInRegistry)
	}
	return err
}
