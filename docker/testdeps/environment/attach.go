package environment

import "context"

// Attach returns what a container that somebody else makes needs to be the
// service in this environment: the network to join, names and addresses for its
// hosts file ("NAME:ADDRESS"), and variables that say where its dependencies are.
func (x *Environment) Attach(ctx context.Context) (network string, hosts, env []string) {
	return x.network, x.hosts(ctx), x.inside()
}
