package environment

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/gopaasta/paasta/docker/internal/option"
	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// A formed is what the engine is asked for, for one container.
type formed struct {
	config  *container.Config
	host    *container.HostConfig
	network *network.NetworkingConfig
	checks  []marathon.HealthCheck // of a service's soa-configs
}

// A place is what a container has to know of its environment.
type place struct {
	name    string // of the environment
	network string // id
	address func(*graph.Node) netip.Addr
	bind    string // host address of published ports
	local   bool   // the engine has this machine's files
	near    bool   // this machine is in the network
	labels  map[string]string
}

// form makes the container of a node, as production has it but for where it
// finds others.
func form(n *graph.Node, t target, system sysconfig.Config, p place, called []string) (formed, error) {
	f := formed{
		config: &container.Config{Image: t.ref, Labels: maps.Clone(p.labels), Hostname: strings.ReplaceAll(n.Name, ".", "-")},
		host:   &container.HostConfig{LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "20m", "max-file": "2"}}},
	}
	env := map[string]string{}
	if n.Service != nil {
		var err error
		if f.checks, err = f.service(n, t, system, p, env); err != nil {
			return f, err
		}
	}
	if n.Dep.Cmd != nil {
		f.config.Entrypoint, f.config.Cmd = []string{"/bin/sh"}, []string{"-c", *n.Dep.Cmd}
	} else if len(n.Dep.Args) > 0 {
		f.config.Entrypoint, f.config.Cmd = nil, n.Dep.Args
	}
	// Its own test dependencies win over what soa-configs say of production: a
	// copy for tests must not find its way to real data.
	for _, e := range n.Needs {
		if port := e.To.Port(); port != 0 {
			for _, kv := range variables(e.Name, scheme(e.To), e.Name, port) {
				k, v, _ := strings.Cut(kv, "=")
				env[k] = v
			}
		}
		f.host.ExtraHosts = append(f.host.ExtraHosts, e.Name+":"+p.address(e.To).String())
	}
	maps.Copy(env, n.Dep.Env)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		f.config.Env = append(f.config.Env, k+"="+env[k])
	}
	for _, path := range n.Dep.Tmpfs {
		if f.host.Tmpfs == nil {
			f.host.Tmpfs = map[string]string{}
		}
		f.host.Tmpfs[path] = ""
	}
	if port := n.Port(); port != 0 {
		inside := nat.Port(strconv.Itoa(port) + "/tcp")
		f.config.ExposedPorts = nat.PortSet{inside: {}}
		if len(called) > 0 {
			f.host.PortBindings = nat.PortMap{inside: {{HostIP: p.bind}}}
		}
		f.config.Labels[portLabel] = strconv.Itoa(port)
	}
	f.config.Labels[roleLabel], f.config.Labels[dependencyLabel] = "dependency", n.Name
	f.config.Labels[needsLabel], f.config.Labels[schemeLabel] = strings.Join(called, ","), scheme(n)
	f.join(p, p.address(n), append(slices.Clone(called), n.Name))
	return f, nil
}

// join puts the container into the environment's network.
func (f *formed) join(p place, address netip.Addr, aliases []string) {
	f.host.NetworkMode = container.NetworkMode(p.network)
	endpoint := &network.EndpointSettings{Aliases: aliases}
	if address.IsValid() {
		endpoint.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: address.String()}
	}
	f.network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{p.network: endpoint}}
}

// service fills in what the service's soa-configs say.
func (f *formed) service(n *graph.Node, t target, system sysconfig.Config, p place, env map[string]string) ([]marathon.HealthCheck, error) {
	system.Cluster = n.Instance.Cluster
	system.ExpectedAgents = nil // it is about agents that are not here
	app, err := marathon.BuildApp(marathon.AppInput{
		Instance: n.Instance, Namespace: primary(n), Registry: n.Service.DockerRegistry,
		Deployment: marathon.Deployment{Image: t.image, GitSHA: t.sha},
		Team:       n.Instance.MonitoringTeam, Size: 1, System: system,
	})
	if err != nil {
		return nil, err
	}
	d := app.Definition
	maps.Copy(env, d.Env)
	port := strconv.Itoa(n.Port())
	task := fmt.Sprintf("%s.%s.%s", n.Service.Name, n.Instance.Name, p.name)
	maps.Copy(env, map[string]string{
		"MESOS_TASK_ID": task, "MESOS_SANDBOX": "/mnt/mesos/sandbox", "MARATHON_APP_ID": "/" + d.ID, "MARATHON_HOST": n.Name,
		"MARATHON_PORT": port, "MARATHON_PORT0": port, "MARATHON_PORTS": port, "MARATHON_PORT_" + port: port,
	})
	f.host.Tmpfs = map[string]string{"/mnt/mesos/sandbox": ""}
	if d.Cmd != nil {
		f.config.Entrypoint, f.config.Cmd = []string{"/bin/sh"}, []string{"-c", *d.Cmd}
	} else if len(d.Args) > 0 {
		f.config.Cmd = d.Args
	}
	f.host.Resources = container.Resources{CPUShares: max(2, int64(1024*d.CPUs)), Memory: int64(max(32, d.Mem) * (1 << 20))}
	for _, v := range d.Container.Volumes {
		// A laptop lacks many of a cluster's paths; the engine would make them.
		if _, err := os.Stat(v.HostPath); err == nil && p.local {
			f.host.Binds = append(f.host.Binds, v.HostPath+":"+v.ContainerPath+":"+strings.ToLower(v.Mode))
		}
	}
	for _, o := range d.Container.Docker.Parameters {
		if o.Key == "net" || o.Key == "network" {
			continue // it is ours
		}
		if err := option.Apply(o.Key, o.Value, f.config, f.host); err != nil {
			return nil, fmt.Errorf("extra_docker_args of %s: %w", n.Service.Name, err)
		}
	}
	return d.HealthChecks, nil
}
