package smartstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/smartstack/internal/benchreload/benchcmd"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
	"github.com/gopaasta/paasta/smartstack/internal/plug/plugcmd"
)

// Wiring is what the binary gives to the command.
type Wiring struct {
	Config func() (sysconfig.Config, error)
	// LocalTasks makes the function that lists the tasks of this host, see
	// Options; nil for none.
	LocalTasks func(sysconfig.Config) (func(context.Context) (LocalTasks, error), error)
	Sub        []command.Command // more subcommands
}

// Command returns "paasta smartstack": the agent of a host.
func Command(w Wiring) command.Command {
	var verbose bool
	return command.Command{
		Use:   "smartstack",
		Short: "Run the agent of a host: HAProxy for every service, registration of local ones",
		Long: `Run the agent of this host until it is told to stop. It keeps HAProxy in step
with soa-configs and the registry, serves /status, /healthz and /metrics, and
registers the services of services.d. HAProxy goes on when the agent stops, and
an agent that starts adopts it.`,
		Example: `  paasta smartstack
  curl -s http://127.0.0.1:3213/status`,
		Flags: func(f *pflag.FlagSet) { f.BoolVarP(&verbose, "verbose", "v", false, "log every step") },
		Run: func(ctx context.Context, io command.IO, args []string) error {
			if err := command.NoArgs(args); err != nil {
				return err
			}
			c, err := w.Config()
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			log := command.Logger(io.Err, level).With("component", "smartstack")
			for _, note := range sysconfig.Notes() {
				log.Info("a key of the system config does nothing", "note", note)
			}
			return start(ctx, c, w, log)
		},
		Sub: append([]command.Command{plugcmd.Command(), benchcmd.Command(), stopCommand(w), statusCommand(w), servicesCommand(w), drainCommand(w), undrainCommand(w)}, w.Sub...),
	}
}

// gcPercent makes Go's garbage collector keep the memory of an agent near to what
// it needs: a host is there for its tasks. GOGC in the environment has the last word.
const gcPercent = 25

// start makes the real things and runs the agent.
func start(ctx context.Context, c sysconfig.Config, w Wiring, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	conn, err := zk.Dial(zk.Options{Servers: c.ZooKeeper, Auth: c.ZooKeeperAuth, Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	l, err := net.Listen("tcp", c.Smartstack.Listen)
	if err != nil {
		return command.WithHint(err, "set smartstack.listen in the system config, or look who listens there: ss -ltnp")
	}
	defer l.Close()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	entries := registry.NewZooKeeper(conn)
	o := Options{Config: c, Registry: entries, Keeper: entries, Session: conn, Guard: plug.OwnGuard(), Listener: l, Metrics: metrics, Log: log}
	if w.LocalTasks != nil {
		if o.LocalTasks, err = w.LocalTasks(c); err != nil {
			return err
		}
	}
	return Run(ctx, o)
}

// stopCommand ends the HAProxy that agents leave running.
func stopCommand(w Wiring) command.Command {
	return command.Command{
		Use:   "stop-haproxy",
		Short: "Stop the HAProxy that the agent left running",
		Long: `Stop every HAProxy process that an agent with this system config started. All
services of this host become unreachable through their proxy_port. Stop the agent
first: one that runs starts HAProxy again.`,
		Example: `  systemctl stop paasta-smartstack
  paasta smartstack stop-haproxy`,
		Run: func(ctx context.Context, io command.IO, _ []string) error {
			c, err := w.Config()
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(c.Smartstack.StateDir)
			if err != nil {
				return err
			}
			p := haproxy.Process{Binary: c.Smartstack.HAProxy, Dir: dir}
			pids := p.All()
			if len(pids) == 0 {
				return errors.New("no HAProxy process of this agent is running")
			}
			if err := p.Stop(ctx); err != nil {
				return err
			}
			fmt.Fprintf(io.Out, "stopped %d\n", len(pids))
			return nil
		},
	}
}
