// Package rungroup runs the long-lived parts of a daemon together: when one of
// them ends, all end.
package rungroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Group is an errgroup in which an actor that returns early has failed,
// whatever it returns: an errgroup alone would not notice one that returns nil.
type Group struct {
	group *errgroup.Group
	ctx   context.Context
}

// WithContext returns a group and the context of its actors, which ends with ctx
// or with the first of them.
func WithContext(ctx context.Context) (*Group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	return &Group{g, ctx}, ctx
}

// Go starts an actor, which must run until its context ends.
func (g *Group) Go(name string, run func(context.Context) error) {
	g.group.Go(func() error {
		err := run(g.ctx)
		switch {
		case g.ctx.Err() != nil:
			return nil
		case err == nil:
			err = errors.New("stopped by itself")
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

// Wait waits for all actors. It returns the first error, nil when the group's
// context was ended from outside.
func (g *Group) Wait() error { return g.group.Wait() }

// Every returns an actor that does something at once and then in every interval.
func Every(interval time.Duration, do func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			do(ctx)
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	}
}
