package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/gopaasta/paasta/docker/internal/dial"
)

// stalled is how long a push or a pull may make no progress.
const stalled = 2 * time.Minute

// ErrNotInRegistry says that a registry has no image of that name, or does not
// show it to whom it does not know.
var ErrNotInRegistry = errors.New("the registry has no such image, or not for us")

// A Progress is one line of how a push or a pull goes. Layer is "" for what is
// about all of it.
type Progress struct {
	Layer, Text string
	Done, Total int64 // bytes; 0 when not known
}

// Push pushes an image to the registry that its name begins with, and tells
// how it goes.
func (e *Engine) Push(ctx context.Context, ref string, c Credentials, progress func(Progress)) error {
	auth, err := c.header()
	if err != nil {
		return err
	}
	return follow(ctx, "push "+ref, progress, func(ctx context.Context) (io.ReadCloser, error) {
		return e.client.ImagePush(ctx, ref, image.PushOptions{RegistryAuth: auth})
	})
}

// Pull fetches an image from the registry that its name begins with, and tells
// how it goes. The error is an ErrNotInRegistry when it is not there.
func (e *Engine) Pull(ctx context.Context, ref string, c Credentials, progress func(Progress)) error {
	auth, err := c.header()
	if err != nil {
		return err
	}
	err = follow(ctx, "pull "+ref, progress, func(ctx context.Context) (io.ReadCloser, error) {
		return e.client.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
	})
	if err != nil && (errdefs.IsNotFound(err) || strings.Contains(err.Error(), "manifest unknown") || strings.Contains(err.Error(), "not found")) {
		return fmt.Errorf("%w: %w", err, ErrNotInRegistry)
	}
	return err
}

// follow reads what the engine tells of a transfer until its end, or until it
// has told nothing new for too long.
func follow(ctx context.Context, what string, progress func(Progress), begin func(context.Context) (io.ReadCloser, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("%s: no progress for %v", what, stalled)) })
	defer late.Stop()
	wrap := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return dial.Explain(fmt.Errorf("%s: %w", what, err))
	}
	stream, err := begin(ctx)
	if err != nil {
		return wrap(err)
	}
	defer stream.Close()
	// The engine answers 200 and tells failures in the stream.
	for messages := json.NewDecoder(stream); ; late.Reset(stalled) {
		var m struct {
			ID       string `json:"id"`
			Status   string `json:"status"`
			Error    string `json:"error"`
			Progress struct {
				Current int64 `json:"current"`
				Total   int64 `json:"total"`
			} `json:"progressDetail"`
		}
		err := messages.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return wrap(err)
		case m.Error != "":
			return wrap(errors.New(m.Error))
		}
		progress(Progress{m.ID, m.Status, m.Progress.Current, m.Progress.Total})
	}
}
