//go:build !linux

package benchcmd

import (
	"context"
	"errors"

	"github.com/gopaasta/paasta/paasta/command"
)

func (f *benchFlags) run(context.Context, command.IO, []string) error {
	return errors.New("bench-reload needs Linux")
}
