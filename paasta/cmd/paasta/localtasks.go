package main

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"

	"github.com/gopaasta/paasta/docker/marathon"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack"
)

// localTasks returns what lists the tasks of this host: the first Marathon of
// the config, if it is a "paasta marathon" on this host. A real Marathon knows
// nothing of /paasta/agents, which is an error each time, and so unknown; one on
// another host says nothing of this one, so there is nothing to ask.
func localTasks(c sysconfig.Config) (func(context.Context) (smartstack.LocalTasks, error), error) {
	if len(c.MarathonServers) == 0 || len(c.MarathonServers[0].URL) == 0 {
		return nil, nil
	}
	at := c.MarathonServers[0].URL[0]
	u, err := url.Parse(at)
	if err != nil {
		return nil, err // says the URL
	}
	if !here(u.Hostname()) {
		return nil, nil
	}
	return func(ctx context.Context) (smartstack.LocalTasks, error) {
		addresses, tasks, err := marathon.Local(ctx, at)
		if err != nil {
			return smartstack.LocalTasks{}, err
		}
		local := smartstack.LocalTasks{Addresses: addresses}
		for _, t := range tasks {
			local.Tasks = append(local.Tasks, smartstack.LocalTask{ID: t.ID, Host: t.Address, Ports: t.Ports, IP: t.IP, Service: t.Service, Instance: t.Instance})
		}
		return local, nil
	}, nil
}

// here tells whether host is an address of this host.
func here(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	return ip.IsLoopback() || err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr() == ip.Unmap()
	})
}
