package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/paasta/command"
)

// reach finds out whether the engine is that of the playground whose settings
// this shell has. That one is in a network namespace of its own: connections
// are made from inside.
func (env *Env) reach(engine string, port int) (reach, error) {
	direct := reach{close: func() {}}
	dir := os.Getenv("PAASTA_PLAYGROUND")
	if dir == "" {
		return direct, nil
	}
	p, err := playground.Open(dir)
	if errors.Is(err, playground.ErrNone) || err == nil && p.DockerHost() != engine {
		return direct, nil
	} else if err != nil {
		return direct, err
	}
	if p.Inside() { // paasta playground exec
		return direct, nil
	}
	n, err := p.Enter()
	if err != nil {
		return direct, command.WithHint(fmt.Errorf("reach the playground's containers: %w", err), "as root, like the playground itself")
	}
	r, err := reachThrough(n.DialContext, port)
	if err != nil {
		return direct, errors.Join(err, n.Close())
	}
	end := r.close
	r.close = func() {
		end()
		n.Close()
	}
	return r, nil
}
