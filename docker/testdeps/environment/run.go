package environment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/paasta/command"
)

// A Command runs in a container of its own inside an environment.
type Command struct {
	Image    string
	Args     []string // replaces the image's entrypoint, too
	Env      []string // KEY=VALUE, over those of the environment
	Volumes  []string // HOST:CONTAINER[:ro]; HOST may be relative
	Out, Err io.Writer
}

// stopWithin is what a command has for its end when ctx has ended.
const stopWithin = 10

// Run runs a command and returns its exit code. Inside, the service's
// dependencies answer to their names and at the production address. When ctx
// ends the command is told to stop and, ten seconds later, made to; then the
// error is ctx's.
func (x *Environment) Run(ctx context.Context, c Command) (int, error) {
	e := x.engine
	f := formed{
		config: &container.Config{
			Image: c.Image, Entrypoint: c.Args[:1], Cmd: c.Args[1:], Env: append(x.inside(), c.Env...),
			Labels: map[string]string{
				nameLabel: x.Name, idLabel: x.id, serviceLabel: x.Service, dirLabel: x.Dir, ownerLabel: x.owner,
				tiedLabel: fmt.Sprint(x.tied), untilLabel: fmt.Sprint(x.Until.Unix()), roleLabel: "command",
			},
			AttachStdout: true, AttachStderr: true,
		},
		host: &container.HostConfig{LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "20m", "max-file": "2"}}},
	}
	init := true
	f.host.Init = &init // so that the command need not reap or handle signals
	for _, v := range c.Volumes {
		from, to, ok := strings.Cut(v, ":")
		if !ok || from == "" || !strings.HasPrefix(to, "/") {
			return 0, command.UsageError{Err: fmt.Errorf("volume %q: want HOST:CONTAINER or HOST:CONTAINER:ro", v)}
		}
		from, err := filepath.Abs(from)
		if err != nil {
			return 0, err
		}
		f.host.Binds = append(f.host.Binds, from+":"+to)
	}
	f.config.Labels = maps.Clone(f.config.Labels)
	f.host.ExtraHosts = append(f.host.ExtraHosts, x.hosts(ctx)...)
	f.join(place{network: x.network}, netip.Addr{}, nil)
	if err := e.fetch(ctx, target{ref: c.Image}, func(string, string) {}); err != nil {
		return 0, err
	}
	limited, cancel := within(ctx, call)
	defer cancel()
	made, err := e.docker.ContainerCreate(limited, f.config, f.host, f.network, nil, "")
	if err != nil {
		return 0, explain(fmt.Errorf("make a container from %s: %w", c.Image, err))
	}
	defer func() {
		limited, cancel := within(ctx, call)
		defer cancel()
		// What is left is removed with the environment.
		_ = e.docker.ContainerRemove(limited, made.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	}()
	attached, err := daemon.Hijack(limited, func(ctx context.Context) (types.HijackedResponse, error) {
		return e.docker.ContainerAttach(ctx, made.ID, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	})
	if err != nil {
		return 0, explain(err)
	}
	defer attached.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = stdcopy.StdCopy(c.Out, c.Err, attached.Reader) // it ends with the container, however that ends
	}()
	// Until the container has ended, also when it was told to, or the engine is silent.
	waiting, stopWaiting := e.docker.Watch(context.WithoutCancel(ctx))
	defer stopWaiting()
	exited, failed := e.docker.ContainerWait(waiting, made.ID, container.WaitConditionNextExit)
	if err := e.docker.ContainerStart(limited, made.ID, container.StartOptions{}); err != nil {
		if strings.Contains(err.Error(), "executable file not found") || strings.Contains(err.Error(), "no such file or directory") {
			return 0, command.WithHint(fmt.Errorf("run %s in %s: %w", c.Args[0], c.Image, err), "a program that the image has, by its full path")
		}
		return 0, explain(fmt.Errorf("start %s: %w", c.Args[0], err))
	}
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := within(ctx, call)
		defer cancel()
		grace := stopWithin
		_ = e.docker.ContainerStop(limited, made.ID, container.StopOptions{Timeout: &grace}) // it may have ended
	})
	defer stop()
	select {
	case s := <-exited:
		select {
		case <-copied:
		case <-time.After(10 * time.Second): // a child that holds the output open is not waited for
		}
		if ctx.Err() != nil {
			return int(s.StatusCode), context.Cause(ctx)
		}
		return int(s.StatusCode), nil
	case err := <-failed:
		if waiting.Err() != nil {
			err = context.Cause(waiting)
		}
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return 0, explain(fmt.Errorf("wait for %s: %w", c.Args[0], err))
	}
}

// hosts are the names that the service has for its own dependencies.
func (x *Environment) hosts(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	var list []string
	for _, d := range x.Dependencies {
		c, err := x.engine.docker.ContainerInspect(ctx, d.Container)
		if err != nil || c.NetworkSettings == nil {
			continue // gone; its name answers to nothing
		}
		for _, n := range c.NetworkSettings.Networks {
			for _, name := range d.Called {
				if n.IPAddress != "" {
					list = append(list, name+":"+n.IPAddress)
				}
			}
		}
	}
	return list
}
