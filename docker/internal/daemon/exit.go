package daemon

import (
	"context"
	"strconv"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
)

// LostStatus is the exit status that Docker from 25 on gives a container that ended
// while both dockerd and its containerd were dead. Programs end with it, too:
// only the engine's events tell the two apart.
const LostStatus = 255

// An Inspector is the part of the engine's client that ExitState needs.
type Inspector interface {
	ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error)
}

// The kernel tells the engine of its kill apart from the end of the process, and
// sometimes after it.
const (
	oomPatience = time.Second
	oomEvery    = 50 * time.Millisecond
)

// ExitState returns how a container ended that exited with status. What cannot be read
// of it is left out.
func ExitState(ctx context.Context, docker Inspector, id string, status int) *container.State {
	state := &container.State{ExitCode: status}
	for until := time.Now().Add(oomPatience); ctx.Err() == nil; {
		c, err := docker.ContainerInspect(ctx, id)
		if err != nil || c.ContainerJSONBase == nil || c.State == nil {
			return state
		}
		state.OOMKilled = c.State.OOMKilled
		if state.OOMKilled || ExitSignal(status) != syscall.SIGKILL || time.Now().After(until) {
			return state
		}
		select {
		case <-ctx.Done():
		case <-time.After(oomEvery):
		}
	}
	return state
}

// OutOfMemory tells whether a container ended because it reached its memory
// limit. The engine says OOMKilled also of one that lost only a process on its
// way, and then ended in whatever way, status 0 included.
func OutOfMemory(s *container.State) bool {
	return s.OOMKilled && s.ExitCode == 128+int(syscall.SIGKILL)
}

// ExitText describes a container's exit status, e.g. "137 (signal 9)", with what
// it lost to its memory limit on the way.
func ExitText(s *container.State) string {
	text := strconv.Itoa(s.ExitCode)
	if signal := ExitSignal(s.ExitCode); signal != 0 {
		text += " (signal " + strconv.Itoa(int(signal)) + ")"
	}
	if s.OOMKilled && !OutOfMemory(s) {
		text += "; one of its processes was killed at the memory limit"
	}
	return text
}

// ExitSignal returns the signal that a shell's or Docker's exit status stands for, 0
// when it is an ordinary one.
func ExitSignal(status int) syscall.Signal {
	if status > 128 && status <= 128+64 {
		return syscall.Signal(status - 128)
	}
	return 0
}
