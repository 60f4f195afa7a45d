// Package daemon is what all who use a Docker Engine share: the client for the
// one that DOCKER_HOST and its companions name, also through ssh, that notices
// when it stops answering; commands in containers, how these ended, pushes and
// pulls. Its errors say what to do.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/docker/docker/client"

	"github.com/gopaasta/paasta/paasta/command"
)

// A Client is Docker's own, for one engine.
type Client struct {
	*client.Client
	// Patience is what the engine has for the simplest question, and how often
	// Watch asks one.
	Patience time.Duration
}

// patience is the default. Over ssh, ssh alone may take 15 s.
const patience = 20 * time.Second

// New returns a client for the engine at host, "" for the one of the
// environment. It does not connect yet. ssh://[USER@]HOST[:PORT] is reached by
// the ssh program.
func New(host string) (*Client, error) {
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if host == "" {
		host = os.Getenv("DOCKER_HOST")
	} else {
		opts = append(opts, client.WithHost(host))
	}
	if strings.HasPrefix(host, "ssh://") {
		name, dialer, err := overSSH(host)
		if err != nil {
			return nil, err
		}
		// The name says where published ports are; to connect, it is not looked up.
		opts = []client.Opt{client.WithHost("http://" + name), client.WithDialContext(dialer), client.WithAPIVersionNegotiation()}
	}
	c, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, command.WithHint(fmt.Errorf("docker engine %s: %w", host, err), "DOCKER_HOST: unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST")
	}
	return &Client{c, patience}, nil
}

// Local tells whether the engine shares this machine's files and, on
// Linux, can be reached at its containers' own addresses.
func (c *Client) Local() bool {
	return runtime.GOOS == "linux" && strings.HasPrefix(c.DaemonHost(), "unix://")
}

// Host is where ports that the engine publishes are reached.
func (c *Client) Host() string {
	u, err := url.Parse(c.DaemonHost())
	if err != nil || u.Scheme != "tcp" && u.Scheme != "https" && u.Scheme != "http" {
		return "127.0.0.1"
	}
	return u.Hostname()
}

// Explain adds what helps to an error that says that there is no engine. Others
// come back as they are.
func Explain(err error) error {
	var ssh *sshError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ssh):
		return command.WithHint(err, "the same ssh by hand; it has to work without a question, and the host needs Docker's client")
	case errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied while trying to connect"):
		return command.WithHint(err, "sudo, or become a member of the group that owns the engine's socket (docker, as a rule)")
	case errors.Is(err, context.DeadlineExceeded):
		return command.WithHint(err, "docker info tells whether the engine is well: it did not answer in time")
	case client.IsErrConnectionFailed(err):
		return command.WithHint(err, "start Docker, or say in DOCKER_HOST where the engine is; the playground's is set by: . .playground/env")
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return command.WithHint(err, "start Docker, or say in DOCKER_HOST where the engine is; the playground's is set by: . .playground/env")
	}
	return err
}
