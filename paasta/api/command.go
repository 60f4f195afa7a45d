package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
)

// Command returns "paasta api".
func Command() command.Command {
	return command.Daemon(command.Command{
		Use:   "api [--listen ADDR]",
		Short: "Run the HTTP API that the other commands ask",
		Long: `Run the HTTP API of this cluster. It keeps no state: it answers from soa-configs,
ZooKeeper, Marathon, deployd and the agents, and where one of them does not
answer it says so and gives the rest.

It listens on loopback unless told otherwise. Any other address needs TLS, and a
token or a client certificate from everybody who asks (api.tls_cert,
api.tls_key, api.tokens, api.client_ca in the system config).`,
		Example: `  paasta api
  paasta api --listen 127.0.0.1:5054 --log-level debug`,
	}, "listen", "api.listen", func(c *sysconfig.Config) *string { return &c.API.Listen }, run)
}

// run makes the real things and hands them to Run.
func run(ctx context.Context, c sysconfig.Config, log *slog.Logger) error {
	addr, err := net.ResolveTCPAddr("tcp", c.API.Listen)
	if err != nil {
		return fmt.Errorf("api.listen %q: %w", c.API.Listen, err)
	}
	who, tlsConfig, err := access(c.API, addr)
	if err != nil {
		return err
	}
	conn, err := zk.Dial(zk.Options{Servers: c.ZooKeeper, Auth: c.ZooKeeperAuth, Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	frameworks, err := frameworks(c.MarathonServers, c.MesosMasters, log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.API.Listen)
	if err != nil {
		return command.WithHint(err, "see who listens there ('ss -ltnp'), or choose another address with --listen")
	}
	defer l.Close()
	return Run(ctx, Options{
		Cluster: c.Cluster, SoaDir: c.SoaDir, Clusters: c.Clusters,
		ZK: conn, Marathon: frameworks,
		Listener: l, TLS: tlsConfig, Access: who, Log: log,
	})
}
