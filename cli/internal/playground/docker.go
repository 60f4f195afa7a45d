//go:build linux

package playground

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// keepChain holds the ways to published ports while the engine starts.
const keepChain = "PAASTA-KEEP"

// beforeDocker makes way for the engine after one that was killed.
func (p *Playground) beforeDocker() error {
	// The engine does not start while a process, whichever, has the pid of one
	// that was killed.
	if err := removeIfThere(p.runtime("dockerd.pid")); err != nil {
		return err
	}
	// And it waits in vain for a containerd that died with it and was not reaped.
	file := p.runtime("docker", "containerd", "containerd.pid")
	if text, err := os.ReadFile(file); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil {
			_, err = running(pid)
		}
		if err != nil {
			if err := removeIfThere(file); err != nil {
				return err
			}
		}
	}
	return p.keepPublished()
}

// keepPublished copies the engine's rules for published ports into a chain of
// our own that comes after its own. An engine that starts drops its rules and
// makes them anew only once it has loaded its containers; these run on
// meanwhile (live-restore) and shall be reached.
func (p *Playground) keepPublished() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	saved, err := p.inside(ctx, "", "iptables-save", "-t", "nat")
	if err != nil {
		return err
	}
	rules := published(string(saved))
	if len(rules) == 0 {
		return nil
	}
	if err := p.dropKept(); err != nil {
		return err
	}
	text := "*nat\n:" + keepChain + " - [0:0]\n" +
		strings.Join(rules, "\n") + "\n" +
		"-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j " + keepChain + "\n" +
		"-A PREROUTING -m addrtype --dst-type LOCAL -j " + keepChain + "\n" +
		"COMMIT\n"
	_, err = p.inside(ctx, text, "iptables-restore", "-w", "5", "--noflush")
	return err
}

// published picks the engine's rules for published ports out of what
// iptables-save says, as rules of keepChain.
func published(saved string) []string {
	var rules []string
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "-A DOCKER "); ok && strings.Contains(rest, " -j DNAT ") {
			rules = append(rules, "-A "+keepChain+" "+rest)
		}
	}
	return rules
}

// dropKept removes keepChain, once the engine's own rules are there again. No
// such chain is no error.
func (p *Playground) dropKept() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := p.inside(ctx, "", "iptables", "-w", "5", "-t", "nat", "-n", "-L", keepChain); err != nil {
		return nil // there is none
	}
	for _, chain := range []string{"OUTPUT", "PREROUTING"} {
		saved, err := p.inside(ctx, "", "iptables", "-w", "5", "-t", "nat", "-S", chain)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(saved)) {
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), "-A ")
			if !ok || !strings.HasSuffix(rest, "-j "+keepChain) {
				continue
			}
			if _, err := p.inside(ctx, "", "iptables", append([]string{"-w", "5", "-t", "nat", "-D"}, strings.Fields(rest)...)...); err != nil {
				return err
			}
		}
	}
	_, flushed := p.inside(ctx, "", "iptables", "-w", "5", "-t", "nat", "-F", keepChain)
	_, removed := p.inside(ctx, "", "iptables", "-w", "5", "-t", "nat", "-X", keepChain)
	return errors.Join(flushed, removed)
}

// inside runs a program in the namespace and returns its standard output.
func (p *Playground) inside(ctx context.Context, input, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + filepath.Join(namespaces, p.Name), "--", program}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out, nil
}
