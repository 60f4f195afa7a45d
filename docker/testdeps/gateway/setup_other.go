//go:build !linux

package gateway

import (
	"context"
	"errors"
)

// Containers are Linux; this only lets the CLI be built elsewhere.
var errElsewhere = errors.New("the gateway runs on Linux only")

func deviceOf(string) (string, error)      { return "", errElsewhere }
func addAddress(string, string, int) error { return errElsewhere }
func dropDefaultRoute(string) error        { return errElsewhere }
func letAnswersOut(string) error           { return errElsewhere }
func (g *gateway) sniff(context.Context)   {}
