// Command paasta is the whole platform in one binary: what people type, and
// the daemons. It only wires the trees together.
package main

//go:generate sh -c "go run . reference > ../../../docs/reference/cli.md"

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/gopaasta/paasta/cli"
	"github.com/gopaasta/paasta/deployd"
	"github.com/gopaasta/paasta/docker/marathon"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := environment()
	os.Exit(cli.Main(ctx, env, os.Args[1:], commands(env)...))
}

// commands are those that do not come from cli: the daemons.
func commands(env *cli.Env) []command.Command {
	return []command.Command{
		api.Command(),
		smartstack.Command(smartstack.Wiring{Config: env.Config, LocalTasks: localTasks}),
		deployd.Command(),
		marathon.Command(),
	}
}

func environment() *cli.Env {
	out := int(os.Stdout.Fd())
	width, _, err := term.GetSize(out)
	if err != nil { // the answer goes elsewhere, and progress to the terminal
		width, _, _ = term.GetSize(int(os.Stderr.Fd()))
	}
	return &cli.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		TTY: term.IsTerminal(out), InTTY: term.IsTerminal(int(os.Stdin.Fd())), ErrTTY: term.IsTerminal(int(os.Stderr.Fd())),
		Color:   term.IsTerminal(out) && os.Getenv("NO_COLOR") == "",
		Width:   width,
		Now:     time.Now,
		Config:  sync.OnceValues(sysconfig.Load),
		Version: version,
	}
}
