package smartstack

import (
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/smartstack/internal/benchreload/benchcmd"
)

// benchReloadCommand is "paasta smartstack bench-reload", for people on their
// own kernels.
func benchReloadCommand() command.Command { return benchcmd.Command() }
