package deployd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
)

// CrashAt is the variable that makes "paasta deployd" kill itself, as if by
// kill -9, when it has made the named step for the first time. It is for tests.
const CrashAt = "PAASTA_DEPLOYD_CRASH_AT"

// Command returns "paasta deployd".
func Command() command.Command {
	return command.Daemon(command.Command{
		Use:   "deployd [--listen ADDR]",
		Short: "Run the daemon that deploys: tags and soa-configs in, apps and registrations out",
		Long: `Run the daemon that brings what runs in this cluster to what tags and soa-configs
ask for. Run one on every master: they elect a leader in ZooKeeper, and only the
leader acts. It keeps no state of its own and can be killed at any moment; the
next leader goes on where it stopped.`,
		Example: `  paasta deployd
  paasta deployd --listen 127.0.0.1:5055 --log-level debug`,
	}, "serve status, /healthz and /metrics", "deployd.listen", func(c *sysconfig.Config) *string { return &c.Deployd.Listen }, run)
}

// run makes the real things and hands them to Run.
func run(ctx context.Context, c sysconfig.Config, log *slog.Logger) error {
	switch {
	case c.Cluster == "":
		return command.WithHint(errors.New("the system config names no cluster"), "set cluster: NAME in a file below $"+"PAASTA_SYSTEM_CONFIG_DIR (default /etc/paasta)")
	case c.ZooKeeper == "":
		return command.WithHint(errors.New("the system config names no zookeeper"), "set zookeeper: HOST:2181")
	case len(c.MarathonServers) == 0:
		return command.WithHint(errors.New("the system config names no Marathon"), "set marathon_servers: [{url: [http://HOST:8080]}]")
	case len(c.MarathonServers) > 1:
		return command.WithHint(fmt.Errorf("marathon_servers has %d entries, each a Marathon of its own: deployd drives one", len(c.MarathonServers)),
			"one Marathon with several masters is one entry: marathon_servers: [{url: [http://M1:8080, http://M2:8080]}]")
	}
	atStep, err := crashAt(os.Getenv(CrashAt), log)
	if err != nil {
		return err
	}
	conn, err := zk.Dial(zk.Options{Servers: c.ZooKeeper, Auth: c.ZooKeeperAuth, Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	server := c.MarathonServers[0]
	m, err := marathon.New(marathon.Options{URLs: server.URL, User: server.User, Password: server.Password, Log: log})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Deployd.Listen)
	if err != nil {
		return command.WithHint(err, "see who listens there ('ss -ltnp'), or choose another address with --listen")
	}
	defer l.Close()
	return Run(ctx, Options{
		Config: c, ZK: conn, Marathon: m, Tags: tags, Listener: l, Log: log, AtStep: atStep,
	})
}

// tags lists the tags of a repository.
func tags(ctx context.Context, url string) ([]paasta.Tag, error) {
	remote, err := git.Open(url)
	if err != nil {
		return nil, err
	}
	return remote.Tags(ctx)
}

// crashAt returns a hook that kills this process at a step.
func crashAt(step string, log *slog.Logger) (func(string), error) {
	if step == "" {
		return nil, nil
	}
	if !slices.Contains(Steps, step) {
		return nil, fmt.Errorf("%s=%s: no such step (known: %s)", CrashAt, step, strings.Join(Steps, ", "))
	}
	return func(made string) {
		if made != step {
			return
		}
		log.Info("crashing as told", "step", step)
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		log.Error("crash at a step failed", "err", err)
		select {} // nothing more happens after this step
	}, nil
}
