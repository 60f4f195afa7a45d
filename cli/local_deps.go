package cli

import (
	"context"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/localrun"
	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// startDependencies starts the service's test dependencies and makes the run
// part of their environment: they answer to their names there, and at the
// production address. down removes them.
func startDependencies(ctx context.Context, env *Env, s *soaconfig.Service, f localRunFlags, r *localrun.Request) (down func(), err error) {
	e, err := environment.Dial(ctx, "")
	if err != nil {
		return nil, err
	}
	wanted := testDepsFlags{service: s.Name, soaDir: f.soaDir, keep: 12 * time.Hour, inside: true}
	x, err := wanted.up(ctx, env, e, true)
	if err != nil {
		e.Close()
		return nil, err
	}
	network, hosts, variables := x.Attach(ctx)
	r.Network, r.Hosts, r.Env = network, hosts, map[string]string{}
	for _, kv := range variables {
		key, value, _ := strings.Cut(kv, "=")
		r.Env[key] = value
	}
	return func() {
		defer e.Close()
		if err := x.Down(context.WithoutCancel(ctx)); err != nil {
			env.notef("paasta: warning: %v", err)
		}
	}, nil
}
