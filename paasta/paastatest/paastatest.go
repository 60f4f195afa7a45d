// Package paastatest helps tests that use real things: it asks for the
// programs they need and gives them a network namespace of their own. Only
// tests import it.
package paastatest

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of a program. Without it the test is skipped, with the
// reason, on a laptop, and fails under CI=true: a missing install must not look
// green.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Missing(t, "%s is not installed (make deps installs it)", program)
	}
	return path
}

// NeedRoot skips or fails, in the manner of Need, when the test is not root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root")
	}
}

// Missing skips the test, or fails it under CI=true, because a part is not
// there.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
