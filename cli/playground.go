//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/paasta/command"
)

func newPlayground(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "playground",
		Short: "Run the whole platform on this machine",
		Long: `Run the whole platform on this machine: ZooKeeper, a Docker engine, a registry,
HAProxy and PaaSTA's daemons, in a network namespace of their own. The API,
ZooKeeper, Marathon, the registry and every proxy_port are forwarded to the
host's loopback. It needs root.`,
		Example: `  paasta playground up
  paasta playground exec -- curl -s http://169.254.255.254:20001/`,
	}
	for _, sub := range []func(*Env) *cobra.Command{
		newPlaygroundUp, newPlaygroundDown, newPlaygroundStatus, newPlaygroundLogs,
		newPlaygroundExec, newPlaygroundShell, newPlaygroundSupervise, newPlaygroundForward, newPlaygroundRestrict,
	} {
		cmd.AddCommand(sub(env))
	}
	return cmd
}

// playgroundDirFlag adds --dir.
func playgroundDirFlag(cmd *cobra.Command, dir *string) {
	preset := ".playground"
	if here := os.Getenv("PAASTA_PLAYGROUND"); here != "" {
		preset = here
	}
	cmd.Flags().StringVar(dir, "dir", preset, "the playground's `DIR`; also $PAASTA_PLAYGROUND")
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err) // the flag was added above
	}
}

func newPlaygroundUp(env *Env) *cobra.Command {
	o := playground.UpOptions{Out: env.Err}
	cmd := &cobra.Command{
		Use:   "up [--dir DIR] [--agents N]",
		Short: "Start it, or start what is missing of it",
		Long: `Start a playground, or what is missing of it, and wait until all of it is ready.
What runs already is left alone; daemons of an older build are restarted. A
second playground, in another directory, gets another loopback address.`,
		Example: `  paasta playground up
  paasta playground up --dir /tmp/other --agents 5`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Agents < 0 || o.Agents > 200 {
				return usagef("--agents %d: want 1 to 200", o.Agents)
			}
			if addr, err := netip.ParseAddr(o.Address); o.Address != "" && (err != nil || !addr.Is4() || !addr.IsLoopback()) {
				return usagef("--address: %q is no address of the loopback, such as 127.0.0.2", o.Address)
			}
			p, err := playground.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			printPlayground(env, p)
			return nil
		},
	}
	playgroundDirFlag(cmd, &o.Dir)
	cmd.Flags().IntVar(&o.Agents, "agents", 0, "`NUMBER` of virtual agents; default: as before, or 3")
	cmd.Flags().StringVar(&o.Address, "address", "", "forward to this loopback `ADDRESS`; default: as before, or the first free one")
	return cmd
}

// printPlayground says where everything is.
func printPlayground(env *Env, p *playground.Playground) {
	env.printf("The playground in %s is up.\n", p.Dir)
	forwards, err := p.Forwards()
	if err != nil {
		env.notef("paasta: what is forwarded is not known: %v", err)
	}
	for _, f := range forwards {
		if f.Error != "" {
			env.printf("  %-20s not forwarded: %s\n", f.What, f.Error)
			continue
		}
		env.printf("  %-20s %s:%d\n", f.What, p.Address, f.Port)
	}
	env.printf("Use it:    . %s/env\nLook:      paasta playground status --dir %s\nRemove it: paasta playground down --dir %s\n", p.Dir, p.Dir, p.Dir)
}

func newPlaygroundDown(env *Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "down [--dir DIR]",
		Short: "Remove every process, container, address, mount and file of it",
		Long: `Remove a playground with every process, container, address, mount and file of
it, whatever state it is in. A directory that is no playground is left alone.`,
		Example: `  paasta playground down
  paasta playground down --dir /tmp/other`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return playgroundDown(cmd.Context(), env, "playground", dir)
		},
	}
	playgroundDirFlag(cmd, &dir)
	return cmd
}

// playgroundDown removes the playground in dir, as the user knows it.
func playgroundDown(ctx context.Context, env *Env, what, dir string) error {
	gone, err := playground.Down(ctx, dir)
	switch {
	case err != nil:
		return fmt.Errorf("remove the %s in %s: %w", what, dir, err)
	case gone:
		env.notef("the %s in %s is gone", what, dir)
	default:
		env.notef("there is no %s in %s: nothing to remove", what, dir)
	}
	return nil
}

func newPlaygroundStatus(env *Env) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--dir DIR]",
		Short: "Show how its daemons are",
		Long:  `Show how the daemons of a playground are, and what is forwarded. Exits 3 if one is not ready.`,
		Example: `  paasta playground status
  paasta playground status --json | jq .ready`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := playground.Open(dir)
			if err != nil {
				return err
			}
			if err := playground.NeedRoot("looking into a playground", "paasta playground status --dir "+p.Dir); err != nil {
				return err
			}
			s := p.Status(cmd.Context())
			if asJSON {
				if err := env.printJSON(s); err != nil {
					return err
				}
			} else {
				printPlaygroundStatus(env, s)
			}
			if !s.Ready {
				return command.ErrNotHealthy
			}
			return nil
		},
	}
	playgroundDirFlag(cmd, &dir)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printPlaygroundStatus(env *Env, s playground.Status) {
	t := newTable(env, "DAEMON", "STATE", "PID", "SINCE", "WHY")
	for _, d := range s.Daemons {
		state := env.paint(good, "ready")
		if !d.Ready {
			state = env.paint(bad, "not ready")
		}
		t.row(d.Name, state, strconv.Itoa(d.PID), env.when(d.Started), d.Why)
	}
	t.print()
	t = newTable(env, "FORWARDED", "FROM", "FOR WHOM", "WHY NOT")
	for _, f := range s.Forwards {
		t.row(f.What, fmt.Sprintf("%s:%d", s.Address, f.Port), f.Access, f.Error)
	}
	if env.TTY {
		env.printf("\n")
	}
	t.print()
}

func newPlaygroundLogs(env *Env) *cobra.Command {
	var dir string
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs [DAEMON]… [--dir DIR] [-f]",
		Short: "Show what its daemons say",
		Long:  `Show the last lines of the logs of a playground's daemons, or of some of them.`,
		Example: `  paasta playground logs
  paasta playground logs deployd -f`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := playground.Open(dir)
			if err != nil {
				return err
			}
			files := p.Logs()
			names := slices.Sorted(maps.Keys(files))
			if len(args) > 0 {
				if err := checkNames("daemon", args, "the playground", names); err != nil {
					return usagef("%w (there are: %s)", err, strings.Join(names, ", "))
				}
				names = args
			}
			if lines < 0 {
				return usagef("--lines: want 0 or more, not %d", lines)
			}
			return tailFiles(cmd.Context(), env.Out, files, names, lines, follow)
		},
		ValidArgsFunction: completeNames(func(*cobra.Command) []string {
			p, err := playground.Open(dir)
			if err != nil {
				return nil
			}
			return slices.Sorted(maps.Keys(p.Logs()))
		}),
	}
	playgroundDirFlag(cmd, &dir)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "start with this many `LINES` of each")
	return cmd
}

// tailFiles writes the last lines of each named file, and with follow what is
// appended, until ctx ends or nobody reads any more. With several files each line begins with its name.
func tailFiles(ctx context.Context, out io.Writer, files map[string]string, names []string, lines int, follow bool) error {
	prefix := func(name string) string {
		if len(names) == 1 {
			return ""
		}
		return fmt.Sprintf("%-10s | ", name)
	}
	type source struct {
		prefix string
		file   *os.File
		rest   string // of a line whose end has not come yet
	}
	if follow {
		var cancel context.CancelFunc
		ctx, cancel = whileRead(ctx, out)
		defer cancel()
	}
	var sources []*source
	for _, name := range names {
		f, err := os.Open(files[name])
		if errors.Is(err, os.ErrNotExist) {
			continue // never started
		} else if err != nil {
			return err
		}
		defer f.Close()
		sources = append(sources, &source{prefix: prefix(name), file: f})
	}
	for first := true; ; first = false {
		for _, s := range sources {
			text, err := io.ReadAll(s.file)
			if err != nil {
				return err
			}
			all := strings.SplitAfter(s.rest+string(text), "\n")
			s.rest, all = all[len(all)-1], all[:len(all)-1]
			if first {
				all = all[max(0, len(all)-lines):]
			}
			for _, line := range all {
				if _, err := io.WriteString(out, s.prefix+line); err != nil {
					return err
				}
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func newPlaygroundExec(env *Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "exec [--dir DIR] -- COMMAND [ARG]…",
		Short: "Run a command inside",
		Long: `Run a command in the playground's network, with the settings of DIR/env. It
replaces paasta, so its exit code is the command's.`,
		Example: `  paasta playground exec -- curl -s http://169.254.255.254:20001/
  paasta playground exec -- docker ps`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which COMMAND? e.g. paasta playground exec -- curl -s http://169.254.255.254:20001/")
			}
			return execInside(env, dir, "exec", args)
		},
	}
	playgroundDirFlag(cmd, &dir)
	return cmd
}

func newPlaygroundShell(env *Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "shell [--dir DIR]",
		Short: "Open a shell inside",
		Long:  `Open a shell ($SHELL) in the playground's network, with the settings of DIR/env.`,
		Example: `  paasta playground shell
  paasta playground shell --dir /tmp/other`,
		RunE: func(*cobra.Command, []string) error {
			shell := os.Getenv("SHELL")
			if shell == "" {
				shell = "/bin/sh"
			}
			return execInside(env, dir, "shell", []string{shell})
		},
	}
	playgroundDirFlag(cmd, &dir)
	return cmd
}

// execInside becomes a command inside the playground, for the subcommand sub.
func execInside(env *Env, dir, sub string, args []string) error {
	p, err := playground.Open(dir)
	if err != nil {
		return err
	}
	again := "paasta playground " + sub + " --dir " + p.Dir
	if sub == "exec" {
		again += " -- " + strings.Join(args, " ")
	}
	if err := playground.NeedRoot("going inside a playground", again); err != nil {
		return err
	}
	path, argv, environ, err := p.Command(args)
	switch missing := (&exec.Error{}); {
	case errors.As(err, &missing) && errors.Is(err, exec.ErrNotFound):
		env.notef("paasta: %s: command not found", missing.Name)
		return command.ExitError{Code: 127} // as a shell has it
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, argv, environ))
}

func newPlaygroundSupervise(env *Env) *cobra.Command {
	return playgroundDaemon("supervise", "Keep the daemons of a playground alive", env,
		func(ctx context.Context, p *playground.Playground, log *slog.Logger) error {
			return p.Supervise(ctx, log)
		})
}

func newPlaygroundForward(env *Env) *cobra.Command {
	return playgroundDaemon("forward", "Forward ports of the host to a playground", env,
		func(ctx context.Context, p *playground.Playground, log *slog.Logger) error {
			return p.Forward(ctx, log)
		})
}

func newPlaygroundRestrict(env *Env) *cobra.Command {
	return playgroundDaemon("restrict", "Take the right to change ZooKeeper from whoever has no password", env,
		func(ctx context.Context, p *playground.Playground, _ *slog.Logger) error {
			return p.Restrict(ctx)
		})
}

// playgroundDaemon makes a hidden command that up starts.
func playgroundDaemon(use, short string, env *Env, run func(context.Context, *playground.Playground, *slog.Logger) error) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    use + " [--dir DIR]",
		Short:  short,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := playground.Open(dir)
			if err != nil {
				return err
			}
			return run(cmd.Context(), p, command.Logger(env.Err, slog.LevelInfo))
		},
	}
	playgroundDirFlag(cmd, &dir)
	return cmd
}
