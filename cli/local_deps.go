package cli

import (
	"context"
	"errors"

	"github.com/gopaasta/paasta/docker/localrun"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// startDependencies starts the service's test dependencies and makes the run
// part of their environment. down removes them.
func (env *Env) startDependencies(context.Context, *soaconfig.Service, *localrun.Request) (down func(), err error) {
	return nil, errors.New("--with-deps: this paasta cannot start test dependencies")
}
