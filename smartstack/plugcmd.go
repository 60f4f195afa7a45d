package smartstack

import (
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/smartstack/internal/plug/plugcmd"
)

// plugCommand is "paasta smartstack plug", the plug by itself.
func plugCommand() command.Command { return plugcmd.Command() }
