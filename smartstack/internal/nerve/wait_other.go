//go:build !linux

package nerve

import "os/exec"

// waitThenKill waits for a command to end, and calls kill.
func waitThenKill(cmd *exec.Cmd, kill func()) error {
	defer kill()
	return cmd.Wait()
}
