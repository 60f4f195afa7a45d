package process

import "golang.org/x/sys/unix"

// await waits on a pidfd, which tells of processes that are not our children
// too. It reports false when Run's context ended first.
func (r *Runner) await(p *proc) bool {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return r.ctx.Err() == nil // it has ended
	}
	defer unix.Close(fd)
	for p.lives() {
		if r.ctx.Err() != nil {
			return false
		}
		// Bounded, so that the end of the context is seen.
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
	}
	return true
}
