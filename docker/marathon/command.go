package marathon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
)

// Command returns `paasta marathon`.
func Command() command.Command {
	var listen, stateDir, agentsConfig, dockerHost, prefix string
	var agents int
	return command.Command{
		Use:   "marathon [flags]",
		Short: "Serve Marathon's API on this machine, with one Docker Engine",
		Long: "Serve Marathon's v2 API on this machine: apps with an image run in containers of a Docker Engine, apps with only\n" +
			"a cmd as processes. For laptops, CI and demos; a cluster runs the real Marathon on Mesos. Virtual agents, each\n" +
			"with an address of its own on lo, let constraints and spreading mean something. State is kept in one directory;\n" +
			"tasks go on while this command is away, and are adopted when it comes back.",
		Example: "  paasta marathon --state-dir /var/lib/paasta/marathon --agents 3\n" +
			"  paasta marathon --listen 127.0.0.1:8080 --state-dir /tmp/m --agents-config agents.json",
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&listen, "listen", "127.0.0.1:8080", "serve the API on `ADDR`; there is no authentication")
			f.StringVar(&stateDir, "state-dir", "/var/lib/paasta/marathon", "keep apps, tasks and sandboxes in `DIR`")
			f.IntVar(&agents, "agents", 1, "have `N` virtual agents, at 10.77.1.1, 10.77.2.1, …")
			f.StringVar(&agentsConfig, "agents-config", "", "read the agents from `FILE`, a JSON list of {hostname, address, attributes, cpus, mem, disk, port_low, port_high}")
			f.StringVar(&dockerHost, "docker-host", "", "use the Docker Engine at `URL`; default is DOCKER_HOST, or the local one")
			f.StringVar(&prefix, "env-vars-prefix", "MARATHON_", "put `PREFIX` before HOST, PORT, PORT0, … in the environment of tasks; apps without the label paasta_service get them without it as well")
		},
		Run: func(ctx context.Context, io command.IO, args []string) error {
			if err := command.NoArgs(args); err != nil {
				return err
			}
			if runtime.GOOS != "linux" {
				return command.WithHint(errors.New("paasta marathon runs on Linux only"), "run it in a virtual machine, and set DOCKER_HOST and marathon_servers to that")
			}
			if agents < 1 || agents > 254 {
				return command.UsageError{Err: errors.New("--agents: want 1 to 254")}
			}
			list := Agents(make([]Agent, agents))
			if agentsConfig != "" {
				var err error
				if list, err = ReadAgents(agentsConfig); err != nil {
					return err
				}
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return command.WithHint(err, "name another --listen address, or stop what listens there")
			}
			return Run(ctx, Options{
				Listener: l, StateDir: stateDir, Agents: list, DockerHost: dockerHost, EnvPrefix: prefix,
				Log: command.Logger(io.Err, slog.LevelInfo),
			})
		},
	}
}
