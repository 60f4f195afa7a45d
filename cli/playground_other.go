//go:build !linux

package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// newPlayground says that there is none here: it is made of network
// namespaces.
func newPlayground(*Env) *cobra.Command {
	return &cobra.Command{
		Use:   "playground",
		Short: "Run the whole platform on this machine (Linux only)",
		Long:  "Run the whole platform on this machine. This needs Linux.",
		RunE:  func(*cobra.Command, []string) error { return errors.New("a playground needs Linux") },
	}
}

func newDemo(*Env) *cobra.Command {
	return &cobra.Command{
		Use:    "demo",
		Short:  "Deploy the example service (Linux only)",
		Hidden: true,
		RunE:   func(*cobra.Command, []string) error { return errors.New("the demo needs Linux") },
	}
}
