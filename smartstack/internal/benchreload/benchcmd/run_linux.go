package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/smartstack/internal/benchreload"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// insideEnv says to the process that it is in the namespace already.
const insideEnv = "PAASTA_BENCH_RELOAD_NETNS"

func (f *benchFlags) run(ctx context.Context, io command.IO, args []string) error {
	o, err := f.options(args)
	if err != nil {
		return command.UsageError{Err: err}
	}
	if os.Geteuid() != 0 {
		return command.WithHint(errors.New("bench-reload needs root: it makes a network namespace"), "sudo paasta smartstack bench-reload")
	}
	if _, err := exec.LookPath("haproxy"); err != nil {
		return command.WithHint(err, "apt-get install haproxy")
	}
	if os.Getenv(insideEnv) == "" {
		return again(ctx, io)
	}
	if o.Dir, err = os.MkdirTemp("", "paasta-bench-reload-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.Dir) }()
	o.Progress = func(text string) { fmt.Fprintln(io.Err, text) }

	report, err := benchreload.Run(ctx, o)
	if err != nil && ctx.Err() == nil {
		return err
	}
	// What an interrupted run has found out is worth printing.
	if err := errors.Join(f.print(io, report), err); err != nil {
		return err
	}
	if report.Failed() > 0 {
		return command.ErrNotHealthy
	}
	return nil
}

func (f *benchFlags) options(args []string) (benchreload.Options, error) {
	o := benchreload.Options{
		GuardCommand: plug.OwnGuard(),
		Strategies:   benchreload.Strategies, Requests: f.requests, Reloads: f.reloads, Other: max(f.other, 1),
		Concurrency: f.concurrency, Every: time.Duration(f.every) * time.Millisecond,
	}
	if f.full {
		o.Requests, o.Reloads, o.Other = 1_000_000, 1_500, 5
	}
	errs := []error{command.NoArgs(args)}
	if o.Requests < 1 || o.Reloads < 1 || o.Concurrency < 1 || o.Every < time.Millisecond {
		errs = append(errs, errors.New("--requests, --reloads, --concurrency and --every must be positive"))
	}
	if len(f.strategies) > 0 {
		o.Strategies = nil
	}
	for _, name := range f.strategies {
		s := benchreload.Strategy(name)
		if !slices.Contains(benchreload.Strategies, s) {
			errs = append(errs, fmt.Errorf("unknown strategy %q (known: %v)", name, benchreload.Strategies))
		}
		o.Strategies = append(o.Strategies, s)
	}
	return o, errors.Join(errs...)
}

// again runs this very command in a new network namespace, which ends with it.
func again(ctx context.Context, io command.IO) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.In, io.Out, io.Err
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return command.ExitError{Code: max(exit.ExitCode(), 1)}
	}
	if err != nil {
		return fmt.Errorf("run in a network namespace of its own: %w", err)
	}
	return nil
}

func (f *benchFlags) print(io command.IO, r benchreload.Report) error {
	if f.json {
		if err := command.WriteJSON(io.Out, r); err != nil {
			return err
		}
	} else if err := r.Print(io.Out); err != nil {
		return err
	}
	if f.picture == "" {
		return nil
	}
	out, err := os.Create(f.picture)
	if err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	if err := errors.Join(r.Draw(out), out.Close()); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	path, err := filepath.Abs(f.picture)
	if err != nil {
		return err
	}
	fmt.Fprintf(io.Err, "latencies over time: %s\n", path)
	return nil
}
