// Package plugcmd is "paasta smartstack plug": the plug for people and scripts,
// without the agent.
package plugcmd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// plugFlags are the flags that all plug commands share.
type plugFlags struct {
	protect    string
	address    string
	interfaces []string
	hold       time.Duration
	wait       time.Duration
	json       bool
	bestEffort bool
}

func (f *plugFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.protect, "protect", "auto", "hold by `HOW`: qdisc, nfqueue, or auto for the first that this kernel has")
	fs.StringVar(&f.address, "address", plug.DefaultAddress.String(), "hold new connections to this `ADDRESS`")
	fs.StringSliceVar(&f.interfaces, "interface", []string{"lo"}, "qdisc: catch what comes in on `INTERFACE`; name bridges too, for their containers (repeatable)")
	fs.DurationVar(&f.hold, "hold", 2*time.Second, "let go after this `TIME` whatever happens")
	fs.DurationVar(&f.wait, "wait", 10*time.Second, "wait this `TIME` for another run to end")
}

// open makes the plug, and an error that says what to do next if it cannot.
func (f *plugFlags) open() (*plug.Plug, error) {
	address, err := netip.ParseAddr(f.address)
	if err != nil {
		return nil, command.UsageError{Err: fmt.Errorf("--address: %w", err)}
	}
	p, err := plug.New(plug.Options{
		Protect: plug.Method(f.protect), Address: address, Hold: f.hold, Interfaces: f.interfaces, GuardCommand: plug.OwnGuard(),
	})
	if err != nil {
		return nil, command.UsageError{Err: err}
	}
	if p.Name() == plug.None && plug.Method(f.protect) != plug.None {
		err := errors.Join(plug.Probe(plug.Qdisc), plug.Probe(plug.NFQueue))
		return nil, withPlugHint(fmt.Errorf("nothing on this machine can hold connections: %w", err))
	}
	return p, nil
}

// withPlugHint passes on what the plug says would help.
func withPlugHint(err error) error {
	var unsupported *plug.UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		return command.WithHint(err, unsupported.Hint)
	case errors.Is(err, plug.ErrNotSetUp):
		return command.WithHint(err, "paasta smartstack plug setup")
	case errors.Is(err, plug.ErrForeign):
		return command.WithHint(err, "look at it with ip -d link and tc -s qdisc, and remove it if nobody needs it")
	case errors.Is(err, plug.ErrLocked):
		return command.WithHint(err, "wait until that process is done, or paasta smartstack plug release")
	}
	return err
}

// Command is "paasta smartstack plug".
func Command() command.Command {
	return command.Command{
		Use:   "plug",
		Short: "Hold new connections to the proxy while it reloads",
		Long: `Hold new connections to the proxy's address while something happens that they
should not meet, usually a reload of HAProxy, and let them go afterwards. A
connection is delayed and none is lost: whatever process is killed meanwhile,
the kernel stops holding within half a second.`,
		Example: `  paasta smartstack plug setup --protect nfqueue
  paasta smartstack plug protect -- systemctl reload haproxy`,
		Sub: []command.Command{
			plugSub("setup", "Make what holding needs; twice is once",
				`Make what holding needs in the kernel, and let go of whatever a dead process
may have left held. What is there and right stays as it is. Queueing disciplines
and tables of others are never touched.`,
				func(ctx context.Context, p *plug.Plug, f *plugFlags, io command.IO) error {
					if err := p.Setup(ctx); err != nil {
						return err
					}
					fmt.Fprintf(io.Out, "%s is set up for %s\n", p.Name(), f.address)
					return nil
				}),
			plugSub("check", "Say whether the plug is set up; exits 3 if not",
				`Say whether "protect" would work at once. Exits 0 if so and 3 if something is
missing or different, and says what.`, checkPlug),
			plugSub("status", "Show what the kernel says about the plug",
				`Show how connections are held, whether any are now, how many have been, and the
queueing disciplines of others on the same interfaces.`, plugStatus),
			protectCommand(),
			plugSub("release", "Let go of everything, whoever holds it",
				`Let go of every held connection at once, without waiting for the process that
holds them. That process goes on without protection.`,
				func(ctx context.Context, p *plug.Plug, _ *plugFlags, _ command.IO) error { return p.ReleaseAll(ctx) }),
			plugSub("clear", "Remove what setup made",
				`Let go of held connections and remove what setup made. Nothing else was changed,
so the machine is as it was before.`,
				func(ctx context.Context, p *plug.Plug, _ *plugFlags, _ command.IO) error { return p.Clear(ctx) }),
			{
				Use: "guard OPTIONS", Short: "Release what a dead process holds (started by others)", Hidden: true,
				Run: func(ctx context.Context, io command.IO, args []string) error {
					if len(args) != 1 {
						return command.UsageError{Err: errors.New("guard is started by the processes that hold")}
					}
					return plug.Guard(ctx, io.In, io.Out, args[0])
				},
			},
		},
	}
}

// plugSub is a plug command without arguments.
func plugSub(use, short, long string, run func(context.Context, *plug.Plug, *plugFlags, command.IO) error) command.Command {
	var f plugFlags
	return command.Command{
		Use: use, Short: short, Long: long,
		Example: "  paasta smartstack plug " + use + "\n  paasta smartstack plug " + use + " --protect nfqueue",
		Flags: func(fs *pflag.FlagSet) {
			f.add(fs)
			if use == "status" || use == "check" {
				fs.BoolVar(&f.json, "json", false, "print JSON")
			}
		},
		Run: func(ctx context.Context, io command.IO, args []string) error {
			if err := command.NoArgs(args); err != nil {
				return err
			}
			p, err := f.open()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, f.wait)
			defer cancel()
			return withPlugHint(errors.Join(run(ctx, p, &f, io), p.Close()))
		},
	}
}

func checkPlug(ctx context.Context, p *plug.Plug, f *plugFlags, io command.IO) error {
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	switch {
	case f.json:
		if err := command.WriteJSON(io.Out, s); err != nil {
			return err
		}
	case s.SetUp:
		fmt.Fprintf(io.Out, "%s is set up for %s\n", s.Protect, s.Address)
	default:
		fmt.Fprintln(io.Out, s.Problem)
	}
	if !s.SetUp {
		return command.ErrNotHealthy
	}
	return nil
}

func plugStatus(ctx context.Context, p *plug.Plug, f *plugFlags, io command.IO) error {
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return command.WriteJSON(io.Out, s)
	}
	w := tabwriter.NewWriter(io.Out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("protect", s.Protect)
	row("address", s.Address)
	setUp, holding := "yes", "no"
	if !s.SetUp {
		setUp = "no: " + s.Problem
	}
	if s.Holding {
		holding = "yes"
	}
	row("set up", setUp)
	row("holding", holding)
	row("waiting", s.Waiting)
	if s.Protect == plug.Qdisc {
		row("passed", s.Passed)
	}
	row("dropped", s.Dropped)
	for _, one := range s.Foreign {
		row("not ours", one)
	}
	return w.Flush()
}

// protectCommand is "plug protect -- CMD".
func protectCommand() command.Command {
	var f plugFlags
	return command.Command{
		Use:   "protect [flags] -- COMMAND [ARG...]",
		Short: "Hold new connections, run a command, let them go",
		Long: `Hold new connections to the address, run COMMAND, and let them go when it has
ended, however it ended. Exits with COMMAND's exit code. Connections wait for
--hold at most; if COMMAND takes longer they go on without protection, and that
is said. Sets the plug up if it is not. If connections cannot be held, COMMAND
is not run, unless with --best-effort.`,
		Example: `  paasta smartstack plug protect -- systemctl reload haproxy
  paasta smartstack plug protect --protect nfqueue --hold 500ms -- ./reload.sh`,
		Flags: func(fs *pflag.FlagSet) {
			f.add(fs)
			fs.BoolVar(&f.bestEffort, "best-effort", false, "run COMMAND even if connections cannot be held")
		},
		Run: func(ctx context.Context, io command.IO, args []string) error {
			if len(args) == 0 {
				return command.UsageError{Err: errors.New("which command? (plug protect -- COMMAND)")}
			}
			return protect(ctx, io, &f, args)
		},
	}
}

func protect(ctx context.Context, io command.IO, f *plugFlags, args []string) error {
	p, err := f.open()
	if err == nil {
		defer func() { _ = p.Close() }() // Release has said what there is to say
		err = holdSetUp(ctx, p, f.wait)
	}
	if err != nil {
		if !f.bestEffort {
			return withPlugHint(fmt.Errorf("%s was not run: %w", args[0], err))
		}
		fmt.Fprintf(io.Err, "paasta: new connections are not held: %v\n", err)
		return runCommand(ctx, io, args)
	}
	ran := runCommand(ctx, io, args)
	released := p.Release(ctx)
	if p.Holds().Lapsed > 0 {
		fmt.Fprintf(io.Err, "paasta: new connections were let go after %s, before %s had ended\n",
			p.Holds().Last.Round(time.Millisecond), args[0])
	}
	if released != nil {
		fmt.Fprintf(io.Err, "paasta: %v\n", released)
	}
	if ran != nil {
		return ran
	}
	return released
}

// holdSetUp holds, after setting up what is missing.
func holdSetUp(ctx context.Context, p *plug.Plug, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if p.Check(ctx) != nil {
		if err := p.Setup(ctx); err != nil {
			return err
		}
	}
	return p.Hold(ctx)
}

// runCommand runs a command with our streams. An interrupt is passed on to it,
// and it has five seconds to end.
func runCommand(ctx context.Context, io command.IO, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.In, io.Out, io.Err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code := exit.ExitCode()
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			code = 128 + int(s.Signal())
		}
		return command.ExitError{Code: code}
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	return nil
}
