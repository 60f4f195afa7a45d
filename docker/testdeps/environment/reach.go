package environment

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/docker/forward"
	"github.com/gopaasta/paasta/docker/internal/daemon"
)

// reach sees whether this machine reaches the ports that the engine publishes.
// It does not when the engine is in another network, as that of a playground
// is, or behind a firewall. While this process uses the environment it can hand
// them through; otherwise a note says what helps.
func (u *up) reach(ctx context.Context) error {
	address, why := u.unreachable(ctx)
	if why == nil {
		return nil
	}
	through, err := u.o.Through, error(nil)
	if through == nil {
		if through, err = daemon.Through(os.Getenv("DOCKER_HOST")); err != nil {
			return err
		}
	}
	if through != nil && u.o.Tied {
		return u.x.handThrough(through)
	}
	hint := "paasta test-deps run hands them through to this machine, and --in-container needs none"
	if through == nil && strings.HasPrefix(u.e.docker.DaemonHost(), "unix://") {
		hint = "use --in-container, or run this beside the engine (paasta playground exec -- paasta test-deps …)"
	} else if through == nil {
		hint = "use --in-container; or DOCKER_HOST=ssh://… with paasta test-deps run, which hands them through"
	}
	u.x.Notes = append(u.x.Notes, fmt.Sprintf("ports of the engine cannot be reached from here (%s: %v): %s", address, why, hint))
	return nil
}

// unreachable returns an address that cannot be reached, and why.
func (u *up) unreachable(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, d := range u.x.Dependencies {
		if d.HostPort == 0 {
			continue
		}
		address := net.JoinHostPort(u.e.docker.Host(), strconv.Itoa(d.HostPort))
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return address, err
		}
		conn.Close()
	}
	return "", nil
}

// handThrough gives each published port one of this machine's loopback, until
// Down.
func (x *Environment) handThrough(through forward.Dialer) error {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	x.leave = func() {
		cancel()
		serving.Wait()
	}
	x.host = "127.0.0.1"
	for n := range x.Dependencies {
		d := &x.Dependencies[n]
		if d.HostPort == 0 {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("hand a port of %s through: %w", d.Name, err)
		}
		context.AfterFunc(ctx, func() { l.Close() })
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(d.HostPort)) // as the engine's machine has it
		serving.Go(func() { forward.Serve(ctx, l, through, address) })
		d.HostPort = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}
