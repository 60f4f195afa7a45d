package haproxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// ReplaceMap gives process pid the content of a map of addresses, in one step:
// a request sees either all of the old one or all of the new.
func (r *Runtime) ReplaceMap(ctx context.Context, pid int, file string, order []netip.Addr, names map[netip.Addr]string) error {
	answers, err := r.Do(ctx, pid, "prepare map "+file)
	if err != nil {
		return fmt.Errorf("prepare map %s: %w", file, err)
	}
	_, version, ok := strings.Cut(strings.TrimSpace(answers[0]), ": ")
	if !ok {
		return fmt.Errorf("prepare map %s: %s", file, strings.TrimSpace(answers[0]))
	}
	commands := make([]string, 0, len(order)+1)
	for _, ip := range order {
		commands = append(commands, fmt.Sprintf("add map @%s %s %s %s", version, file, ip, names[ip]))
	}
	commands = append(commands, fmt.Sprintf("commit map @%s %s", version, file))
	answers, err = r.Do(ctx, pid, commands...)
	if err != nil {
		return fmt.Errorf("fill map %s: %w", file, err)
	}
	for i, answer := range answers {
		if answer = strings.TrimSpace(answer); answer != "" {
			return fmt.Errorf("%s: %s", commands[i], answer)
		}
	}
	return nil
}
