//go:build linux

package playground

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// run runs a program and puts what it said into the error.
func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return out, nil
}

// setUpNetwork makes the namespace with its addresses, or completes it. Without
// the link to the host only the pulling of images is lost, so what is wrong
// with that is returned as a warning.
func (p *Playground) setUpNetwork(ctx context.Context) (warning, err error) {
	if p.namespaceID() == 0 {
		// What is left by a crash of the machine is a file without a namespace.
		if err := os.Remove(filepath.Join(namespaces, p.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if _, err := run(ctx, "ip", "netns", "add", p.Name); err != nil {
			return nil, err
		}
	} else if _, err := run(ctx, "ip", "-n", p.Name, "link", "show", "lo"); err != nil {
		if _, err := run(ctx, "ip", "netns", "delete", p.Name); err != nil {
			return nil, err
		}
		if _, err := run(ctx, "ip", "netns", "add", p.Name); err != nil {
			return nil, err
		}
	}
	if _, err := run(ctx, "ip", "-n", p.Name, "link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	for n := 1; n <= p.Agents; n++ {
		// Not 127.x, where Docker's user-land proxy would accept for everybody.
		if _, err := run(ctx, "ip", "-n", p.Name, "address", "replace", fmt.Sprintf("10.77.%d.1/32", n), "dev", "lo"); err != nil {
			return nil, err
		}
	}
	return p.linkToHost(ctx), nil
}

// The links' names; at most 15 characters.
func (p *Playground) hostLink() string   { return "h" + p.Name }
func (p *Playground) insideLink() string { return "i" + p.Name }

// hasHostLink asks the kernel, not /sys, which may show another namespace.
func (p *Playground) hasHostLink(ctx context.Context) bool {
	_, err := run(ctx, "ip", "link", "show", "dev", p.hostLink())
	return err == nil
}

// linkToHost gives the namespace a way out: a pair of links, a route, and
// address translation on the host.
func (p *Playground) linkToHost(ctx context.Context) error {
	subnet, err := netip.ParsePrefix(p.Subnet)
	if err != nil {
		return errors.New("no free addresses for a link to the host")
	}
	host := subnet.Addr().Next()
	inside := host.Next()
	if !p.hasHostLink(ctx) {
		if _, err := run(ctx, "ip", "link", "add", p.hostLink(), "type", "veth", "peer", "name", p.insideLink(), "netns", p.Name); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"address", "replace", host.String() + "/30", "dev", p.hostLink()},
		{"link", "set", p.hostLink(), "up"},
		{"-n", p.Name, "address", "replace", inside.String() + "/30", "dev", p.insideLink()},
		{"-n", p.Name, "link", "set", p.insideLink(), "up"},
		{"-n", p.Name, "route", "replace", "default", "via", host.String()},
	} {
		if _, err := run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err == nil && strings.TrimSpace(string(text)) == "0" {
		p.SetForwarding = true
		if err := p.save(); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644); err != nil {
			return err
		}
	}
	for _, rule := range p.rules() {
		if _, err := run(ctx, "iptables", rule.with("-C")...); err == nil {
			continue
		}
		if _, err := run(ctx, "iptables", rule.with("-I")...); err != nil {
			return err
		}
	}
	return nil
}

// A rule is one of iptables: table, chain, and what it says.
type rule struct {
	table, chain string
	spec         []string
}

func (r rule) with(verb string) []string {
	return append([]string{"-w", "5", "-t", r.table, verb, r.chain}, r.spec...)
}

func (p *Playground) rules() []rule {
	comment := []string{"-m", "comment", "--comment", p.Name}
	return []rule{
		{"nat", "POSTROUTING", append([]string{"-s", p.Subnet, "!", "-o", p.hostLink(), "-j", "MASQUERADE"}, comment...)},
		{"filter", "FORWARD", append([]string{"-i", p.hostLink(), "-j", "ACCEPT"}, comment...)},
		{"filter", "FORWARD", append([]string{"-o", p.hostLink(), "-j", "ACCEPT"}, comment...)},
	}
}

// removeNetwork undoes setUpNetwork. What is gone already is no error.
func (p *Playground) removeNetwork(ctx context.Context) error {
	var problems []error
	if p.Subnet != "" {
		for _, rule := range p.rules() {
			// The bound is against a rule that is there and cannot be deleted.
			for range 10 {
				if _, err := run(ctx, "iptables", rule.with("-D")...); err != nil {
					break
				}
			}
		}
	}
	if p.hasHostLink(ctx) {
		_, err := run(ctx, "ip", "link", "delete", p.hostLink())
		problems = append(problems, err)
	}
	if _, err := os.Lstat(filepath.Join(namespaces, p.Name)); err == nil {
		if _, err := run(ctx, "ip", "netns", "delete", p.Name); err != nil {
			// A crash can leave the file without the mount.
			if removed := os.Remove(filepath.Join(namespaces, p.Name)); removed != nil {
				problems = append(problems, err)
			}
		}
	}
	if p.SetForwarding {
		problems = append(problems, p.stopForwarding())
	}
	return errors.Join(problems...)
}

// stopForwarding puts the host's setting back, or leaves that to a playground
// that still needs it.
func (p *Playground) stopForwarding() error {
	if others := otherPlaygrounds(p.Name); len(others) > 0 {
		others[0].SetForwarding = true
		return others[0].save()
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0\n"), 0o644)
}

// otherPlaygrounds reads those that share this process's network besides the one
// called name.
func otherPlaygrounds(name string) []*Playground {
	links, err := filepath.Glob(runtimeRoot + "/paasta-*/playground")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	host := namespaceOf(os.Getpid())
	var others []*Playground
	for _, link := range links {
		if filepath.Base(filepath.Dir(link)) == name {
			continue
		}
		dir, err := os.Readlink(link)
		if err != nil {
			continue
		}
		if p, err := Open(dir); err == nil && p.Host == host {
			others = append(others, p)
		}
	}
	return others
}

// freeSubnet returns a /30 that neither the host nor another playground uses,
// "" when there is none.
func freeSubnet(ctx context.Context, others []*Playground) (string, error) {
	out, err := run(ctx, "ip", "-4", "-json", "route", "show", "table", "all")
	if err != nil {
		return "", err
	}
	var routes []struct {
		Dst string `json:"dst"`
	}
	if err := json.Unmarshal(out, &routes); err != nil {
		return "", fmt.Errorf("ip route: %w", err)
	}
	var used []netip.Prefix
	for _, r := range routes {
		if prefix, err := netip.ParsePrefix(r.Dst); err == nil {
			used = append(used, prefix)
		} else if addr, err := netip.ParseAddr(r.Dst); err == nil {
			used = append(used, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	for _, o := range others {
		if prefix, err := netip.ParsePrefix(o.Subnet); err == nil {
			used = append(used, prefix)
		}
	}
	for n := range 256 {
		candidate := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, byte(n), 0}), 30)
		if !overlaps(candidate, used) {
			return candidate.String(), nil
		}
	}
	return "", nil
}

func overlaps(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if u.Bits() > 0 && u.Overlaps(p) {
			return true
		}
	}
	return false
}
