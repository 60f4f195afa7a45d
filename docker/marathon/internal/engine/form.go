package engine

import (
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/gopaasta/paasta/docker/internal/option"
	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
)

// The labels of our containers.
const (
	taskLabel    = option.TaskLabel
	ownerLabel   = "paasta.marathon" // the framework id of the installation
	appLabel     = "paasta.marathon.app"
	versionLabel = "paasta.marathon.version"
)

const sandboxInside = "/mnt/mesos/sandbox"

// containerName is derived from the task's id, so that a launch that is tried
// again finds what the first one made.
func containerName(taskID string) string { return "mesos-" + taskID[strings.LastIndex(taskID, ".")+1:] }

// form makes what the Docker Engine is asked for, as Mesos' Docker executor
// would.
func form(l core.Launch, owner, sandbox string) (*container.Config, *container.HostConfig, error) {
	t, a := l.Task, l.Task.App
	docker := a.Container.Docker
	env := []string{"MESOS_SANDBOX=" + sandboxInside, "MESOS_CONTAINER_NAME=" + containerName(t.ID)}
	for _, k := range slices.Sorted(maps.Keys(l.Env)) {
		env = append(env, k+"="+l.Env[k])
	}
	c := &container.Config{
		Image: docker.Image, Env: env, User: a.User,
		Labels: map[string]string{taskLabel: t.ID, ownerLabel: owner, appLabel: a.ID, versionLabel: t.Version},
		Tty:    a.TTY != nil && *a.TTY,
	}
	if a.Cmd != nil {
		c.Entrypoint, c.Cmd = []string{"/bin/sh"}, []string{"-c", *a.Cmd}
	} else if len(a.Args) > 0 {
		c.Cmd = a.Args
	}
	memory := int64(max(32, a.Mem) * (1 << 20))
	h := &container.HostConfig{
		Privileged: docker.Privileged,
		Resources:  container.Resources{CPUShares: max(2, int64(1024*a.CPUs)), Memory: memory},
		LogConfig:  container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "20m", "max-file": "2"}},
		Binds:      []string{sandbox + ":" + sandboxInside},
	}
	switch a.Mode() {
	case "host":
		h.NetworkMode = "host"
	case "container/bridge":
		h.NetworkMode = "bridge"
	default:
		h.NetworkMode = container.NetworkMode(a.Networks[0].Name)
	}
	c.ExposedPorts, h.PortBindings = publish(a.Mappings(), t.Slots, t.Address)
	for _, v := range a.Container.Volumes {
		inside := v.ContainerPath
		if !path.IsAbs(inside) {
			inside = path.Join(sandboxInside, inside)
		}
		h.Binds = append(h.Binds, v.HostPath+":"+inside+":"+strings.ToLower(v.Mode))
	}
	for i, p := range docker.Parameters {
		if err := option.Apply(p.Key, p.Value, c, h); err != nil {
			return nil, nil, fmt.Errorf("/container/docker/parameters(%d): %w", i, err)
		}
	}
	return c, h, nil
}

// publish binds each mapping to its host port on the agent's address.
func publish(mappings []definition.PortMapping, slots []int, address string) (nat.PortSet, nat.PortMap) {
	exposed, bound := nat.PortSet{}, nat.PortMap{}
	for i, m := range mappings {
		inside := m.ContainerPort
		if inside == 0 {
			inside = slots[i]
		}
		if inside == 0 {
			continue
		}
		for protocol := range strings.SplitSeq(m.Protocol, ",") {
			port := nat.Port(strconv.Itoa(inside) + "/" + protocol)
			exposed[port] = struct{}{}
			if slots[i] != 0 {
				bound[port] = append(bound[port], nat.PortBinding{HostIP: address, HostPort: strconv.Itoa(slots[i])})
			}
		}
	}
	return exposed, bound
}

// Check returns what is wrong with the Docker parameters of a definition: those
// that are unknown, cannot be read, or would take the container out of our hands.
func Check(a *definition.App) []definition.Problem {
	if a.Image() == "" {
		return nil
	}
	var problems []definition.Problem
	for i, p := range a.Container.Docker.Parameters {
		if err := option.Apply(p.Key, p.Value, &container.Config{Labels: map[string]string{}}, &container.HostConfig{}); err != nil {
			problems = append(problems, definition.Problem{
				Path: fmt.Sprintf("/container/docker/parameters(%d)", i), Errors: []string{err.Error()},
			})
		}
	}
	return problems
}

// sandboxOf returns the directory of a task's files.
func sandboxOf(dir, taskID string) string { return filepath.Join(dir, taskID) }

func seconds(s float64) int { return int(math.Ceil(s)) }
