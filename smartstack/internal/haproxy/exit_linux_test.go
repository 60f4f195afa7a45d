package haproxy

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// That a process cannot be followed does not say that it has ended.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, unix.ENOSYS, unix.EPERM, unix.EMFILE} {
		t.Run(fmt.Sprint("error ", err), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("sleep", "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			end := func() { _, _ = cmd.Process.Kill(), cmd.Wait() }
			defer end()
			open := func(pid int) (int, error) {
				if err != nil {
					return -1, err
				}
				return unix.PidfdOpen(pid, 0)
			}
			for range 2 { // running, and ended
				gone := exitedBy(t.Context(), cmd.Process.Pid, open)
				if cmd.ProcessState == nil {
					select {
					case <-gone:
						t.Fatal("said to have ended while it runs")
					default:
					}
					end()
				}
				select {
				case <-gone:
				case <-time.After(20 * time.Second):
					t.Fatal("not said to have ended within 20 s")
				}
			}
		})
	}
}
