package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/docker/api/types/image"
)

// stalled is how long a transfer may make no progress.
const stalled = 2 * time.Minute

// A Progress is one line of how a push or a pull goes. Layer is "" for what is
// about all of it.
type Progress struct {
	Layer, Text string
	Done, Total int64 // bytes; 0 when not known
}

// Push pushes an image to the registry that its name begins with. auth is what
// Docker's header for it holds, "" for nobody; progress may be nil.
func (c *Client) Push(ctx context.Context, ref, auth string, progress func(Progress)) error {
	return c.follow(ctx, "push "+ref, progress, func(ctx context.Context) (io.ReadCloser, error) {
		return c.ImagePush(ctx, ref, image.PushOptions{RegistryAuth: auth})
	})
}

// Pull fetches an image from the registry that its name begins with.
func (c *Client) Pull(ctx context.Context, ref, auth string, progress func(Progress)) error {
	return c.follow(ctx, "pull "+ref, progress, func(ctx context.Context) (io.ReadCloser, error) {
		return c.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
	})
}

// follow reads what the engine tells of a transfer until its end, or until it
// has told nothing new for too long, or answers nothing at all.
func (c *Client) follow(ctx context.Context, what string, progress func(Progress), begin func(context.Context) (io.ReadCloser, error)) error {
	ctx, stop := c.Watch(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("no progress for %v", stalled)) })
	defer late.Stop()
	wrap := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return Explain(fmt.Errorf("%s: %w", what, err))
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
			return wrap(errors.New(strings.TrimSpace(m.Error)))
		case progress != nil:
			progress(Progress{m.ID, m.Status, m.Progress.Current, m.Progress.Total})
		}
	}
}
