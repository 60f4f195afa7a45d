package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"

	"github.com/gopaasta/paasta/paasta/process"
)

// The labels of all that an environment consists of.
const (
	nameLabel       = "paasta.test-deps"    // its name
	idLabel         = "paasta.test-deps.id" // tells it from another that has, or wants, its name
	serviceLabel    = "paasta.test-deps.service"
	dirLabel        = "paasta.test-deps.dir"   // where it was asked for
	ownerLabel      = "paasta.test-deps.owner" // the process that made it
	tiedLabel       = "paasta.test-deps.tied"  // "true": of no use without that process
	untilLabel      = "paasta.test-deps.until" // Unix time
	roleLabel       = "paasta.test-deps.role"  // gateway, dependency or command
	dependencyLabel = "paasta.test-deps.dependency"
	needsLabel      = "paasta.test-deps.needs"   // how the service calls it; "" when only others need it
	schemeLabel     = "paasta.test-deps.scheme"  // http or tcp
	portLabel       = "paasta.test-deps.port"    // inside
	readyLabel      = "paasta.test-deps.timeout" // seconds until it has to be ready
)

// A Selection says which environments are meant; empty fields mean all.
type Selection struct{ Name, Service, Dir string }

func (s Selection) has(x *Environment) bool {
	return (s.Name == "" || s.Name == x.Name) && (s.Service == "" || s.Service == x.Service) && (s.Dir == "" || s.Dir == x.Dir)
}

// List finds the environments of a selection, by name. What is half made or
// half removed counts, too.
func (e *Engine) List(ctx context.Context, s Selection) ([]*Environment, error) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	ours := filters.NewArgs(filters.Arg("label", nameLabel))
	var containers []container.Summary
	var networks []network.Summary
	var asks errgroup.Group
	asks.Go(func() error {
		var err error
		containers, err = e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: ours})
		return err
	})
	asks.Go(func() error {
		var err error
		networks, err = e.docker.NetworkList(ctx, network.ListOptions{Filters: ours})
		return err
	})
	if err := asks.Wait(); err != nil {
		return nil, explain(fmt.Errorf("list environments: %w", err))
	}
	found := map[string]*Environment{}
	of := func(labels map[string]string) *Environment {
		key := labels[nameLabel] + " " + labels[idLabel]
		if found[key] == nil {
			until, err := strconv.ParseInt(labels[untilLabel], 10, 64)
			if err != nil {
				until = 0 // not made by us as it should be: the next up removes it
			}
			found[key] = &Environment{
				engine: e, Name: labels[nameLabel], id: labels[idLabel], Service: labels[serviceLabel], Dir: labels[dirLabel],
				Until: time.Unix(until, 0), owner: labels[ownerLabel], tied: labels[tiedLabel] == "true",
			}
		}
		return found[key]
	}
	for _, n := range networks {
		x := of(n.Labels)
		x.network, x.Created = n.ID, n.Created
		if len(n.IPAM.Config) > 0 {
			x.Subnet = n.IPAM.Config[0].Subnet
		}
	}
	for _, c := range containers {
		x := of(c.Labels)
		x.containers = append(x.containers, c.ID)
		switch c.Labels[roleLabel] {
		case "gateway":
			x.gateway, x.gatewayRuns = c.ID, c.State == "running"
			x.complete = slices.Contains(c.Names, "/"+containerName(x.Name, gatewayName))
		case "dependency":
			x.Dependencies = append(x.Dependencies, dependencyOf(c))
		}
	}
	var list []*Environment
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if x := found[key]; s.has(x) {
			slices.SortFunc(x.Dependencies, func(a, b Dependency) int { return cmp.Compare(a.Name, b.Name) })
			list = append(list, x)
		}
	}
	return list, nil
}

func dependencyOf(c container.Summary) Dependency {
	d := Dependency{
		Name: c.Labels[dependencyLabel], Image: c.Image, Container: c.ID, State: c.State, Status: c.Status,
		scheme: c.Labels[schemeLabel],
	}
	if called := c.Labels[needsLabel]; called != "" {
		d.Called = strings.Split(called, ",")
	}
	if n, err := strconv.Atoi(c.Labels[portLabel]); err == nil {
		d.Port = n
	}
	d.HostPort = published(c.Ports, d.Port)
	return d
}

// published is where a container's port is on the host.
func published(ports []container.Port, inside int) int {
	for _, p := range ports {
		if p.PublicPort != 0 && int(p.PrivatePort) == inside {
			return int(p.PublicPort)
		}
	}
	return 0
}

// stale says why an environment is of no use any more, "" if it is.
func (x *Environment) stale(now time.Time) string {
	maker := look(x.owner)
	switch {
	case now.After(x.Until):
		return "its time is over"
	case maker == process.Gone && x.tied:
		return "the command that it was made for has ended"
	case maker == process.Gone && !x.complete:
		return "the command that was making it has ended"
	case maker != process.Alive && x.complete && !x.gatewayRuns:
		return "it has stopped"
	}
	return ""
}

// Sweep removes environments that are of no use any more, and returns a
// sentence about each.
func (e *Engine) Sweep(ctx context.Context) ([]string, error) { return e.sweep(ctx, nil) }

// sweep leaves one alone that is just being made.
func (e *Engine) sweep(ctx context.Context, spared *Environment) ([]string, error) {
	all, err := e.List(ctx, Selection{})
	if err != nil {
		return nil, err
	}
	var did []string
	var errs []error
	for _, x := range all {
		why := x.stale(time.Now())
		if why == "" || spared != nil && x.id == spared.id {
			continue
		}
		if err := x.Down(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		did = append(did, removed(x, why))
	}
	return did, errors.Join(errs...)
}

func removed(x *Environment, why string) string { return fmt.Sprintf("removed %s: %s", x.Name, why) }

// Down removes all of it, and nothing of another environment of its name:
// containers with their volumes, then the network. It goes on where something
// is gone already or cannot be removed.
func (x *Environment) Down(ctx context.Context) error {
	if x.Name == "" {
		return nil // nothing was made
	}
	ctx, cancel := within(ctx, time.Minute)
	defer cancel()
	if x.asker != nil {
		x.asker.close()
	}
	if x.leave != nil {
		x.leave()
	}
	// What a killed command had asked the engine for may still come.
	var quiet time.Duration
	if !x.complete && look(x.owner) == process.Gone {
		quiet = settle
	}
	var empty time.Time
	for failures := 0; ; {
		// Not what we remember: there may be more.
		now, err := x.engine.List(ctx, Selection{Name: x.Name})
		now = slices.DeleteFunc(now, func(other *Environment) bool { return other.id != x.id })
		switch {
		case err != nil:
			return err
		case len(now) > 0:
			empty = time.Time{}
			if errs := now[0].remove(ctx); len(errs) > 0 {
				if failures++; failures == 3 {
					return explain(fmt.Errorf("remove %s: %w", x.Name, errors.Join(errs...)))
				}
			}
			continue
		case empty.IsZero():
			empty = time.Now()
		}
		if time.Since(empty) >= quiet {
			return nil
		}
		pause(ctx, settle/20)
	}
}

// settle is how long an engine may take for a request whose sender is dead.
const settle = 3 * time.Second

func (x *Environment) remove(ctx context.Context) []error {
	errs := make([]error, len(x.containers))
	var group errgroup.Group
	group.SetLimit(8)
	for n, id := range x.containers {
		group.Go(func() error {
			err := x.engine.docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
			if err != nil && !gone(err) {
				errs[n] = err
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if x.network != "" && len(errs) == 0 {
		if err := x.engine.docker.NetworkRemove(ctx, x.network); err != nil && !gone(err) {
			errs = append(errs, err)
		}
	}
	return errs
}

// gone tells whether something is not there (any more), or soon will not be.
func gone(err error) bool {
	return errdefs.IsNotFound(err) || strings.Contains(err.Error(), "is already in progress")
}
