//go:build linux

package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/command"
)

// UpOptions say how a playground is made. Dir is required.
type UpOptions struct {
	Dir     string
	Agents  int    // virtual agents; 0: as it was, or 3
	Address string // on the host's loopback; "": as it was, or the first free one of 127.0.0.1, 127.0.0.2, …
	Out     io.Writer
}

// readyWithin bounds the wait for one daemon.
const readyWithin = 60 * time.Second

// Up makes the playground in o.Dir, or completes it: what runs is left alone.
// It returns once every daemon is ready. When it fails, nothing of a playground
// that it began is left.
func Up(ctx context.Context, o UpOptions) (*Playground, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := NeedRoot("a playground (network namespaces, Docker)", "paasta playground up --dir "+dir); err != nil {
		return nil, err
	}
	if programs, packages := missing(); len(programs) > 0 {
		return nil, command.WithHint(fmt.Errorf("these programs are missing: %s", strings.Join(programs, ", ")),
			"apt-get install "+strings.Join(packages, " ")+" (make deps does it)")
	}
	if err := mayBecomePlayground(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	p, err := Open(dir)
	isNew := errors.Is(err, ErrNone)
	if err != nil && !isNew {
		return nil, err
	}
	if isNew {
		if p, err = plan(ctx, dir, o); err != nil {
			os.Remove(dir) // only if it is empty
			return nil, err
		}
	} else if err := p.change(o); err != nil {
		return nil, err
	}
	if err := p.complete(ctx, o.Out); err != nil {
		if !isNew {
			return nil, err
		}
		fmt.Fprintln(o.Out, "that did not work: removing what was begun")
		return nil, errors.Join(err, p.remove(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// mayBecomePlayground refuses directories that hold something else: Down
// removes all of it. And those that somebody else may change: what is in them runs
// as root.
func mayBecomePlayground(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return command.WithHint(fmt.Errorf("%s belongs to the user with the id %d, who could change what runs in it as root", dir, owner),
			"chown root "+dir+", or a --dir that is not there yet")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return command.WithHint(fmt.Errorf("others may write to %s (%s), and could change what runs in it as root", dir, info.Mode()),
			"chmod go-w "+dir+", or a --dir that is not there yet")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	isMarker := func(e os.DirEntry) bool { return e.Name() == "playground.json" }
	if len(entries) > 0 && !slices.ContainsFunc(entries, isMarker) {
		return command.WithHint(fmt.Errorf("%s holds other things, and a playground wants a directory of its own", dir),
			"paasta playground up --dir "+filepath.Join(dir, ".playground"))
	}
	return nil
}

// plan chooses what a new playground does not share with others, and writes it
// down before anything is made.
func plan(ctx context.Context, dir string, o UpOptions) (*Playground, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Two that start at once must not choose the same.
	for {
		unlock, err := lockDir(runtimeRoot)
		if err == nil {
			defer unlock()
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || !sleep(ctx, 20*time.Millisecond) {
			return nil, err
		}
	}
	p := &Playground{Dir: dir, Name: nameOf(dir), Agents: o.Agents, Binary: binary, Host: namespaceOf(os.Getpid())}
	if p.Agents == 0 {
		p.Agents = 3
	}
	others := otherPlaygrounds(p.Name)
	if p.Address, err = freeAddress(dir, o.Address, others); err != nil {
		return nil, err
	}
	if p.Subnet, err = freeSubnet(ctx, others); err != nil {
		return nil, err
	}
	_, err = os.Stat("/etc/docker/key.json")
	p.MadeDockerKey = errors.Is(err, os.ErrNotExist)
	if err := p.show(); err != nil {
		return nil, err
	}
	return p, p.save()
}

// show makes the playground known to others on this host. A reboot empties
// runtimeRoot, so it is done whenever the playground is brought up.
func (p *Playground) show() error {
	link := p.runtime("playground")
	if dir, err := os.Readlink(link); err == nil && dir == p.Dir {
		return nil
	}
	if err := os.MkdirAll(p.runtime(), 0o755); err != nil {
		return err
	}
	return errors.Join(removeIfThere(link), os.Symlink(p.Dir, link))
}

// freeAddress returns a loopback address whose fixed ports are free, for dir. A port
// that another program has is an error, unless a wish names an address; what
// other playgrounds have is gone round.
func freeAddress(dir, wish string, others []*Playground) (string, error) {
	candidates := []string{wish}
	if wish == "" {
		candidates = nil
		for n := 1; n <= 50; n++ {
			candidates = append(candidates, fmt.Sprintf("127.0.0.%d", n))
		}
	}
	for _, address := range candidates {
		if slices.ContainsFunc(others, func(o *Playground) bool { return o.Address == address }) {
			if wish != "" {
				return "", fmt.Errorf("another playground has %s", address)
			}
			continue
		}
		for _, port := range []int{PortAPI, PortZooKeeper, PortMarathon, PortRegistry} {
			by, taken, err := portTaken(address, port)
			if err != nil {
				return "", err
			}
			if taken {
				return "", command.WithHint(fmt.Errorf("port %d of %s is taken by %s", port, address, by),
					"stop it, or use another address: paasta playground up --dir "+dir+" --address 127.0.0.77")
			}
		}
		return address, nil
	}
	return "", errors.New("there are 50 playgrounds already")
}

// change applies options to a playground that exists.
func (p *Playground) change(o UpOptions) error {
	if o.Address != "" && o.Address != p.Address {
		return command.WithHint(fmt.Errorf("%s has the address %s and cannot change it", p.Dir, p.Address),
			"paasta playground down --dir "+p.Dir)
	}
	if o.Agents != 0 && o.Agents != p.Agents {
		return command.WithHint(fmt.Errorf("%s has %d agents and cannot change that", p.Dir, p.Agents),
			"paasta playground down --dir "+p.Dir)
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	p.Binary = binary
	if !p.readPID("forwarder").alive() {
		p.Host = namespaceOf(os.Getpid()) // after a reboot it may have another number
	}
	return p.save()
}

// complete makes what is not there, and waits for what is not ready.
func (p *Playground) complete(ctx context.Context, out io.Writer) error {
	if err := p.show(); err != nil {
		return err
	}
	if err := p.checkPorts(); err != nil {
		return err
	}
	warning, err := p.setUpNetwork(ctx)
	if err != nil {
		return err
	}
	if warning != nil {
		fmt.Fprintf(out, "no way out of the playground, so images cannot be pulled: %v\n", warning)
	}
	if err := p.writeSettings(); err != nil {
		return err
	}
	if err := p.renew(ctx, out); err != nil {
		return err
	}
	if err := p.supervisor(ctx); err != nil {
		return err
	}
	n, err := p.Enter()
	if err != nil {
		return err
	}
	defer n.Close()
	began := time.Now()
	for _, d := range p.daemons() {
		if err := p.awaitReady(ctx, d, n); err != nil {
			return err
		}
		fmt.Fprintf(out, "%-11s ready after %.1f s\n", d.name, time.Since(began).Seconds())
	}
	return nil
}

// checkPorts finds out, before anything starts, whether the forwarder will get
// its ports.
func (p *Playground) checkPorts() error {
	forwarder := p.readPID("forwarder")
	if forwarder.alive() {
		return nil
	}
	for _, f := range p.fixedForwards() {
		by, taken, err := portTaken(p.Address, f.Port)
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("port %d of %s (%s) is taken by %s", f.Port, p.Address, f.What, by)
		}
	}
	return nil
}

// renew stops those of our daemons that run another build of the binary, so
// that the supervisor starts this one.
func (p *Playground) renew(ctx context.Context, out io.Writer) error {
	build := buildOf(p.Binary)
	old := func(name string) (process, bool) {
		proc := p.readPID(name)
		return proc, proc.alive() && proc.Build != "" && proc.Build != build
	}
	if proc, is := old("supervisor"); is {
		if err := proc.stop(ctx, 5*time.Second); err != nil {
			return err
		}
	}
	for _, d := range p.daemons() {
		proc, is := old(d.name)
		if !is {
			continue
		}
		fmt.Fprintf(out, "%-11s restarts, as paasta was built anew\n", d.name)
		if err := proc.stop(ctx, 10*time.Second); err != nil {
			return fmt.Errorf("stop %s: %w", d.name, err)
		}
	}
	return nil
}

// supervisor starts the supervisor when none runs.
func (p *Playground) supervisor(ctx context.Context) error {
	if p.readPID("supervisor").alive() {
		return nil
	}
	d := daemon{name: "supervisor", args: []string{p.Binary, "playground", "supervise", "--dir", p.Dir}, ours: true, outside: true}
	cmd, _, err := p.start(d)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with it, or with us
	select {
	case err := <-ended:
		return fmt.Errorf("the supervisor ended at once: %w; its log says:\n%s", err, p.tail("supervisor", 5))
	case <-time.After(50 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitReady waits until d is ready. The error shows the end of its log.
func (p *Playground) awaitReady(ctx context.Context, d daemon, n *Namespace) error {
	bounded, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	err := until(bounded, func(ctx context.Context) error {
		if !p.readPID(d.name).alive() {
			return errors.New("it does not run")
		}
		return d.ready(ctx, n)
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s is not ready after %s: %w\nThe end of %s:\n%s",
		d.name, readyWithin, err, p.logFile(d.name), indent(p.tail(d.name, 15)))
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// Command returns a command that runs inside, as argv and environment for
// exec. The namespace's processes are seen from outside as any others.
func (p *Playground) Command(args []string) (path string, argv, env []string, err error) {
	if p.namespaceID() == 0 {
		return "", nil, nil, command.WithHint(fmt.Errorf("%s is not up", p.Dir), "paasta playground up --dir "+p.Dir)
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		return "", nil, nil, err // it says what was looked for, and where
	}
	path, err = exec.LookPath("nsenter")
	argv = append([]string{"nsenter", "--net=" + filepath.Join(namespaces, p.Name), "--"}, args...)
	return path, argv, p.EnvironmentOver(), err
}
