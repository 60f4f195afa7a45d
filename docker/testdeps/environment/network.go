package environment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"

	"github.com/docker/docker/api/types/network"
)

// A layout is who has which address in an environment's network. The engine has
// the first; the second is the default gateway of all containers, which is not
// the engine's, as usual, but our own gateway's.
type layout struct{ subnet netip.Prefix }

// pool is where networks are taken from: addresses that are set aside for tests
// of networks (RFC 2544), so nobody's office or VPN has them.
var pool = netip.MustParsePrefix("198.18.0.0/15")

const networkBits = 24

func (l layout) host(n byte) netip.Addr {
	a := l.subnet.Addr().As4()
	a[3] = n
	return netip.AddrFrom4(a)
}
func (l layout) engine() netip.Addr  { return l.host(1) }
func (l layout) router() netip.Addr  { return l.host(2) }
func (l layout) gateway() netip.Addr { return l.host(3) }

// nobody is an address that no container has; strangers are looked up by it.
func (l layout) nobody() netip.Addr { return l.host(4) }

// most is how many dependencies an environment can have.
const most = 110

func (l layout) dependency(n int) netip.Addr { return l.host(byte(10 + n)) }

// dynamic is where the engine takes addresses from for all others.
func (l layout) dynamic() netip.Prefix { return netip.PrefixFrom(l.host(128), networkBits+1) }

// subnets returns the networks of the pool that overlap with nothing in used,
// in random order, so that two commands at once seldom want the same.
func subnets(used []netip.Prefix) []netip.Prefix {
	var free []netip.Prefix
	base := pool.Addr().As4()
	for n := range 1 << (networkBits - pool.Bits()) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{base[0], base[1] + byte(n>>8), byte(n), 0}), networkBits)
		clash := false
		for _, u := range used {
			clash = clash || u.Overlaps(p)
		}
		if !clash {
			free = append(free, p)
		}
	}
	rand.Shuffle(len(free), func(a, b int) { free[a], free[b] = free[b], free[a] })
	return free
}

// used lists what this machine's interfaces and the engine's networks have.
func (e *Engine) used(ctx context.Context) ([]netip.Prefix, error) {
	var used []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			used = append(used, p)
		}
	}
	networks, err := e.docker.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil {
				used = append(used, p)
			}
		}
	}
	return used, nil
}

// makeNetwork makes the network of an environment, in ctx or not at all: one
// that is being made when ctx ends would be nobody's.
func (e *Engine) makeNetwork(ctx context.Context, name string, labels map[string]string) (id string, l layout, err error) {
	if ctx.Err() != nil {
		return "", l, context.Canceled
	}
	ctx, cancel := within(ctx, call)
	defer cancel()
	used, err := e.used(ctx)
	if err != nil {
		return "", l, explain(err)
	}
	last := errors.New("every network of " + pool.String() + " is taken: paasta test-deps status --all shows who has them")
	for n, subnet := range subnets(used) {
		if n == 20 {
			break
		}
		l.subnet = subnet
		made, err := e.docker.NetworkCreate(ctx, "paasta-test-deps-"+name, network.CreateOptions{
			Driver: "bridge", Labels: labels,
			IPAM: &network.IPAM{Config: []network.IPAMConfig{{
				Subnet: subnet.String(), IPRange: l.dynamic().String(), Gateway: l.engine().String(),
				// libnetwork's name for what "dockerd --default-gateway" sets for the
				// default network: where containers send what leaves it.
				AuxAddress: map[string]string{"DefaultGatewayIPv4": l.router().String()},
			}}},
		})
		if err == nil {
			return made.ID, l, nil
		}
		last = err
		if !strings.Contains(err.Error(), "overlaps") && !strings.Contains(err.Error(), "conflicts with") {
			break
		}
	}
	return "", l, explain(fmt.Errorf("make the network of %s: %w", name, last))
}
