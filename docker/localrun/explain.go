package localrun

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/marathon"
)

// A NoImageError says that the engine does not have an image.
type NoImageError struct{ Image string }

func (e *NoImageError) Error() string { return "the Docker engine has no image " + e.Image }

// A PortTakenError says that the port is somebody else's.
type PortTakenError struct {
	Port int
	By   string // who, "" when unknown
}

func (e *PortTakenError) Error() string {
	if e.By != "" {
		return fmt.Sprintf("port %d is in use by %s", e.Port, e.By)
	}
	return fmt.Sprintf("port %d is in use on this machine", e.Port)
}

// A KilledError says that a container wanted more memory than it may have.
type KilledError struct{ MemMB float64 }

func (e *KilledError) Error() string {
	return fmt.Sprintf("your service was killed by the OOM killer: it may use %g MB", e.MemMB)
}

// explain turns what the engine says when it cannot start a container into
// what that means.
func explain(err error, s Spec) error {
	text := err.Error()
	switch {
	case errdefs.IsNotFound(err) && strings.Contains(strings.ToLower(text), "image"):
		return &NoImageError{s.Image}
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"),
		strings.Contains(text, "Ports are not available"):
		return &PortTakenError{Port: s.Port}
	case strings.Contains(text, "bind source path does not exist"):
		_, missing, _ := strings.Cut(text, "bind source path does not exist: ")
		return command.WithHint(fmt.Errorf("the engine of DOCKER_HOST has no %s, which soa-configs or the system config mount as a volume", missing),
			"make it there, or run with an engine on this machine")
	case strings.Contains(text, "no such file or directory"), strings.Contains(text, "executable file not found"):
		if slices.Equal(s.Entrypoint, []string{"/bin/sh"}) {
			return noShell(s.Image)
		}
		return fmt.Errorf("start %s: the image has no such program: %w", s.Image, err)
	case strings.Contains(text, "no space left on device"):
		return command.WithHint(fmt.Errorf("start %s: %w", s.Image, err), "docker system df shows what takes the room, docker system prune frees it")
	case strings.Contains(text, "network") && errdefs.IsNotFound(err):
		return command.WithHint(fmt.Errorf("the engine has no network %q, which net in soa-configs names", s.Network), "docker network create "+s.Network)
	}
	return daemon.Explain(fmt.Errorf("start %s: %w", s.Image, err))
}

func noShell(image string) error {
	return command.WithHint(fmt.Errorf("the image %s has no /bin/sh, which a cmd and a shell need", image),
		"args in soa-configs, which go to the image's entrypoint, need no shell")
}

// dropMissingVolumes takes out the volumes whose host path is not on this
// machine. Production has them; here they would be in the way.
func (e *Engine) dropMissingVolumes(s *Spec, say func(string, ...any)) error {
	if !e.Local() {
		return nil // the engine itself will tell
	}
	var errs []error
	s.Volumes = slices.DeleteFunc(slices.Clone(s.Volumes), func(v marathon.Volume) bool {
		_, err := os.Stat(v.HostPath)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("volume %s: %w", v.ContainerPath, err))
		}
		if errors.Is(err, fs.ErrNotExist) {
			say("Warning: %s is not on this machine, so %s is not there for your service", v.HostPath, v.ContainerPath)
			return true
		}
		return false
	})
	return errors.Join(errs...)
}

// FreePort returns the port if nobody has it, and else any that is free. A
// port of 0 asks for any.
func FreePort(port int) (int, error) {
	if port != 0 && portFree(port) {
		return port, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// CheckPort is a PortTakenError when somebody has the port.
func (e *Engine) CheckPort(ctx context.Context, port int) error {
	if portFree(port) {
		return nil
	}
	return &PortTakenError{port, e.publisher(ctx, port)}
}

func portFree(port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// publisher names the container that has a port, "" when it is none.
func (e *Engine) publisher(ctx context.Context, port int) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := e.docker.ContainerList(ctx, container.ListOptions{})
	if err != nil {
		return "" // it only helps
	}
	for _, c := range list {
		for _, p := range c.Ports {
			if int(p.PublicPort) == port && len(c.Names) > 0 {
				return "the container " + strings.TrimPrefix(c.Names[0], "/")
			}
		}
	}
	return ""
}
