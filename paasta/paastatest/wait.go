package paastatest

import (
	"errors"
	"testing"
	"time"
)

// patience is how long a test waits for what has to happen: far longer than it
// takes on the busiest machine, so that only what never happens fails.
const patience = time.Minute

// Eventually waits until try returns nil. The test fails with what it was to
// come to and the last error when that takes too long.
func Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", patience, what, err)
		}
	}
}

// Until is Eventually for a condition that is all there is to say.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Eventually(t, what, func() error {
		if !ok() {
			return errors.New("it is not so")
		}
		return nil
	})
}
