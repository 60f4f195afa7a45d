//go:build !linux

package plug

import (
	"context"
	"syscall"
)

func unsupported(method Method) error {
	return &UnsupportedError{method, "it needs Linux", "run it on a host of the cluster"}
}

func newDriver(o Options) (driver, error) { return nil, unsupported(o.Protect) }

// Probe says whether this kernel can hold by the given method.
func Probe(method Method) error { return unsupported(method) }

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func lock(context.Context, string) (func() error, error) { return nil, unsupported(Auto) }
