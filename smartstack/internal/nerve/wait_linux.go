package nerve

import (
	"os/exec"

	sys "golang.org/x/sys/unix"
)

// waitThenKill waits for a command to end, and calls kill before its number, which
// is that of its process group, may be somebody else's.
func waitThenKill(cmd *exec.Cmd, kill func()) error {
	for sys.Waitid(sys.P_PID, cmd.Process.Pid, nil, sys.WEXITED|sys.WNOWAIT, nil) == sys.EINTR {
	}
	kill()
	return cmd.Wait()
}
