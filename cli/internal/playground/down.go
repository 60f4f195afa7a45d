//go:build linux

package playground

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Down removes the playground in dir with every process, container, address,
// mount and file of it, in whatever state it is. A directory that is no
// playground is refused; for one that is not there, gone is false.
func Down(ctx context.Context, dir string) (gone bool, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	p, err := Open(dir)
	if errors.Is(err, ErrNone) {
		return false, fmt.Errorf("%s: %w, and is left as it is", dir, ErrNone) // nothing to start, as Open has it
	} else if err != nil {
		return false, err
	}
	if err := NeedRoot("removing a playground", "paasta playground down --dir "+dir); err != nil {
		return false, err
	}
	unlock, err := lock(p.Dir)
	if err != nil {
		return false, err
	}
	defer unlock()
	if id := p.namespaceID(); id != 0 && id == namespaceOf(os.Getpid()) {
		return false, errors.New("this shell is inside the playground: leave it first")
	}
	err = p.remove(ctx)
	return err == nil, err
}

// remove is Down once the lock is held. Each step copes with what an earlier
// try has done already.
func (p *Playground) remove(ctx context.Context) error {
	if supervisor := p.readPID("supervisor"); supervisor.alive() {
		// First, or it would start again what is stopped.
		if err := supervisor.stop(ctx, 3*time.Second); err != nil {
			return fmt.Errorf("stop the supervisor: %w", err)
		}
	}
	if err := p.killAll(ctx); err != nil {
		return err
	}
	if err := p.unmountAll(); err != nil {
		return err
	}
	p.removePlugLock()
	if err := p.removeNetwork(ctx); err != nil {
		return err
	}
	p.removeShimSockets()
	if err := p.removeCgroups(); err != nil {
		return err
	}
	if p.MadeDockerKey {
		if err := removeIfThere("/etc/docker/key.json"); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(p.runtime()); err != nil {
		return err
	}
	// The marker last, so that a try that was interrupted can be repeated.
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "playground.json" {
			continue
		}
		if err := os.RemoveAll(p.path(e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(p.Dir)
}

// killAll kills everything that belongs to the playground: what is in its
// network namespace, in its containers, and our daemons outside.
func (p *Playground) killAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	id := p.namespaceID()
	outside := map[int]process{}
	for _, name := range []string{"supervisor", "forwarder"} {
		if proc := p.readPID(name); proc.alive() {
			outside[proc.PID] = proc
		}
	}
	belongs := func(pid int) bool {
		_, is := outside[pid]
		return is || (id != 0 && namespaceOf(pid) == id) || p.inCgroup(pid) || p.runsFromImage(pid)
	}
	for {
		left := processes(belongs)
		if len(left) == 0 {
			return nil
		}
		for _, proc := range left {
			if err := proc.signal(unix.SIGKILL); err != nil {
				return fmt.Errorf("kill %d: %w", proc.PID, err)
			}
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%d processes do not die, the first is %d", len(left), left[0].PID)
		}
	}
}

// inCgroup tells whether a process is below the cgroup of the playground's
// containers.
func (p *Playground) inCgroup(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && (fields[2] == "/"+p.Name || strings.HasPrefix(fields[2], "/"+p.Name+"/")) {
			return true
		}
	}
	return false
}

// runsFromImage tells whether a process has one of the playground's image
// layers as its root: a container's, also where cgroups cannot be read.
func (p *Playground) runsFromImage(pid int) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && fields[4] == "/" {
			return strings.Contains(lines.Text(), "upperdir="+p.path("docker")+"/")
		}
	}
	return false
}

// mountsBelow lists the mounts at and below the playground's directories, the
// innermost first.
func (p *Playground) mountsBelow() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unescapeMount(fields[4])
		if strings.HasPrefix(at, p.Dir+"/") || strings.HasPrefix(at, p.runtime()+"/") {
			found = append(found, at)
		}
	}
	slices.Reverse(found)
	return found, nil
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unmountAll leaves no mount below the playground's directories, so that
// removing files never reaches through one.
func (p *Playground) unmountAll() error {
	for range 10 { // mounts may lie on one another
		mounts, err := p.mountsBelow()
		if err != nil {
			return err
		}
		if len(mounts) == 0 {
			return nil
		}
		for _, at := range mounts {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount %s: %w", at, err)
			}
		}
	}
	mounts, err := p.mountsBelow()
	if err == nil && len(mounts) > 0 {
		err = fmt.Errorf("%s stays mounted", mounts[0])
	}
	return err
}

// removeShimSockets removes the sockets that containerd puts outside of the
// directories it was given. A container that is deleted takes its socket along;
// one that was killed does not.
func (p *Playground) removeShimSockets() {
	addresses, err := filepath.Glob(p.runtime("docker", "containerd", "daemon", "io.containerd.runtime.v2.task", "*", "*", "address"))
	if err != nil {
		panic(err) // the pattern has no odd characters
	}
	for _, file := range addresses {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		socket, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "unix://")
		if ok && strings.HasPrefix(socket, "/run/containerd/s/") {
			os.Remove(socket) // gone already, as a rule
		}
	}
	// A container that was being started when its engine was killed left no
	// address. Nobody listens on its socket, which no living one is like for long.
	sockets, err := filepath.Glob("/run/containerd/s/*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, socket := range sockets {
		info, err := os.Stat(socket)
		if err != nil || time.Since(info.ModTime()) < 10*time.Second {
			continue
		}
		conn, err := net.DialTimeout("unix", socket, time.Second)
		if err == nil {
			conn.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			os.Remove(socket)
		}
	}
	// Only when nobody else's are in there.
	os.Remove("/run/containerd/s")
	os.Remove("/run/containerd")
}

// removePlugLock removes the lock that the agent keeps for the network
// namespace, before another one gets the same number.
func (p *Playground) removePlugLock() {
	if id := p.namespaceID(); id != 0 {
		os.Remove(fmt.Sprintf("/run/paasta/plug-%d.lock", id)) // never there without a reload
		os.Remove("/run/paasta")                               // only when nobody else's are in there
	}
}

// removeCgroups removes the containers' cgroups in every hierarchy.
func (p *Playground) removeCgroups() error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/" + p.Name)
	if err != nil {
		panic(err) // the pattern has no odd characters
	}
	roots = append(roots, "/sys/fs/cgroup/"+p.Name)
	seen := map[string]bool{} // cpu and cpuacct are one, as a rule
	for _, root := range roots {
		if real, err := filepath.EvalSymlinks(root); err != nil || seen[real] {
			continue
		} else {
			seen[real] = true
		}
		var dirs []string
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what vanishes meanwhile is fine
		})
		if err != nil {
			return err
		}
		for _, dir := range slices.Backward(dirs) {
			if err := removeCgroup(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroup removes one cgroup. The kernel says "busy" for a moment after
// its last process has died.
func removeCgroup(dir string) error {
	var err error
	for range 100 {
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup: %w", err)
}
