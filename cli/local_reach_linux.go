package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/docker/forward"
	"github.com/gopaasta/paasta/paasta/command"
)

// intoPlayground returns what connects from inside the playground whose settings
// this shell has, when the engine is that one's and we are not inside; nil
// otherwise. Call leave at the end, unless there is an error.
func intoPlayground(env *Env, engine string) (through forward.Dialer, leave func(), err error) {
	leave = func() {}
	dir := os.Getenv("PAASTA_PLAYGROUND")
	if dir == "" {
		return nil, leave, nil
	}
	p, err := playground.Open(dir)
	if errors.Is(err, playground.ErrNone) || err == nil && p.DockerHost() != engine {
		return nil, leave, nil
	} else if err != nil {
		return nil, leave, err
	}
	if p.Inside() { // paasta playground exec
		return nil, leave, nil
	}
	n, err := p.Enter()
	if err != nil {
		return nil, leave, command.WithHint(fmt.Errorf("reach the playground's containers: %w", err), "as root, like the playground itself")
	}
	return n.DialContext, func() { _ = n.Close() }, nil
}
