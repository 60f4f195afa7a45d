//go:build !linux

package cli

import "github.com/gopaasta/paasta/docker/forward"

// intoPlayground finds none: playgrounds are on Linux.
func intoPlayground(*Env, string) (forward.Dialer, func(), error) {
	return nil, func() {}, nil
}
