package marathon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/httpserver"
)

// Command returns `paasta marathon`.
func Command() command.Command {
	var listen, stateDir, agentsConfig, dockerHost, prefix, tokenFile string
	var agents int
	return command.Command{
		Use:   "marathon [flags]",
		Short: "Serve Marathon's API on this machine, with one Docker Engine",
		Long: "Serve Marathon's v2 API on this machine: apps with an image run in containers of a Docker Engine, apps with only\n" +
			"a cmd as processes. For laptops, CI and demos; a cluster runs the real Marathon on Mesos. Virtual agents, each\n" +
			"with an address of its own on lo, let constraints and spreading mean something. State is kept in one directory;\n" +
			"tasks go on while this command is away, and are adopted when it comes back. Pods, secrets, check, GPUs and all\n" +
			"volumes but those of the host are not there: what asks for one is refused.\n" +
			"\n" +
			"Whoever may change an app runs what they like as this command's user, so set a token unless all accounts of this\n" +
			"machine are trusted: it is wanted, as bearer token or as the password of basic auth, for all but GET. Requests\n" +
			"that are meant for another host, or come from another site's page, are refused, and a body has to be JSON.",
		Example: "  paasta marathon --state-dir /var/lib/paasta/marathon --agents 3\n" +
			"  paasta marathon --listen 127.0.0.1:8080 --state-dir /tmp/m --agents-config agents.json",
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&listen, "listen", "127.0.0.1:8080", "serve the API on `ADDR`")
			f.StringVar(&stateDir, "state-dir", "/var/lib/paasta/marathon", "keep apps, tasks and sandboxes in `DIR`")
			f.IntVar(&agents, "agents", 1, "have `N` virtual agents, at 10.77.1.1, 10.77.2.1, …")
			f.StringVar(&agentsConfig, "agents-config", "", "read the agents from `FILE`, a JSON list of {hostname, address, attributes, cpus, mem, disk, port_low, port_high}")
			f.StringVar(&dockerHost, "docker-host", "", "use the Docker Engine at `URL`; default is DOCKER_HOST, or the local one")
			f.StringVar(&tokenFile, "token-file", "", "want the token in `FILE` for everything that changes something; without one, whoever can connect may run what they like")
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
			token, err := ReadToken(tokenFile)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return command.WithHint(err, "name another --listen address, or stop what listens there")
			}
			return Run(ctx, Options{
				Listener: l, StateDir: stateDir, Agents: list, DockerHost: dockerHost, EnvPrefix: prefix,
				Token: token, Names: names(listen),
				Log: command.Logger(io.Err, slog.LevelInfo),
			})
		},
	}
}

// ReadToken reads a token from a file, which only its owner may read. No name is
// no token.
func ReadToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", command.WithHint(fmt.Errorf("--token-file: others may read %s (mode %#o)", file, info.Mode().Perm()), "chmod 600 "+file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("--token-file: %s is empty", file)
	}
	return token, nil
}

// names are those of this host that requests may be meant for: how listen calls
// it, and, unless only this host can reach it, what others call it.
func names(listen string) []string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil // there is no such listener either
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	own, err := os.Hostname()
	if err != nil {
		own = ""
	}
	return append(httpserver.HostNames(own), host)
}
