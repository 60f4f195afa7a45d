//go:build !linux

package plug

import (
	"context"
	"syscall"
)

func unsupported(way Protect) error {
	return &UnsupportedError{way, "it needs Linux", "run it on a host of the cluster"}
}

func newMethod(o Options) (method, error) { return nil, unsupported(o.Protect) }

// Probe says whether this kernel can hold by the given way.
func Probe(way Protect) error { return unsupported(way) }

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func lock(context.Context, string) (func() error, error) { return nil, unsupported(Auto) }
