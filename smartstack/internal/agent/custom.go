package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// custom are the operator's own sections.
type custom struct {
	source func() (string, error) // reads them; nil for none
	path   string                 // of a file that holds good
	log    *slog.Logger

	text    string // as it should run
	good    string // as HAProxy took it last, be it from an agent before us
	refused string // what HAProxy did not take: it is not tried again
	err     error  // why; nil when nothing is refused
}

// customProblem is what a problem with them goes by.
const customProblem = "custom_config"

// load begins from the sections that worked before, so that a file which is broken
// or cannot be read when an agent starts takes nothing away.
func (c *custom) load() {
	if c.source == nil {
		return
	}
	text, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Error("read the last good custom_config failed", "err", err)
	}
	c.text, c.good = string(text), string(text)
}

// moved tells whether the operator's file is not what was read last, when that had
// a problem. It is small, and nothing tells of an edit.
func (c *custom) moved(problem error) bool {
	if c.source == nil {
		return false
	}
	text, err := c.source()
	if err != nil {
		return problem == nil
	}
	return text != c.text && text != c.refused
}

// nameRunes are what a proxy's name may be made of.
const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"

// refersTo tells whether the operator's sections, those that run or those that are
// to, name a backend of a registration.
func (c *custom) refersTo(n discover.Namespace) bool {
	for _, text := range []string{c.text, c.good} {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			for _, word := range strings.FieldsFunc(line, func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }) {
				if slices.ContainsFunc(n.Service.Backends, func(b haproxy.Backend) bool { return b.Name == word }) {
					return true
				}
			}
		}
	}
	return false
}

// takes finds a port of a section on which the operator's sections listen as well.
// HAProxy accepts that, and shares the requests out among both.
func (c *custom) takes(sections []*haproxy.Section) error {
	owner := map[netip.AddrPort]string{}
	for _, s := range sections {
		for _, b := range s.Service.Bind {
			owner[b] = s.Service.Name
		}
	}
	n := 0
	for line := range strings.Lines(c.text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "bind" {
			continue
		}
		for at := range strings.SplitSeq(words[1], ",") {
			if b, err := netip.ParseAddrPort(at); err == nil && owner[b] != "" {
				return fmt.Errorf("line %d: bind %s: is the proxy_port of %s, whose requests would go to both: take another port", n, at, owner[b])
			}
		}
	}
	return nil
}

// read takes what the operator wrote now, and says whether it is something else.
func (c *custom) read() (changed bool, err error) {
	if c.source == nil {
		return false, nil
	}
	text, err := c.source()
	switch {
	case err != nil:
		return false, err
	case c.err != nil && text == c.refused:
		return false, c.err
	}
	changed = text != c.text
	c.text, c.refused, c.err = text, "", nil
	return changed, nil
}

// refuse goes back to the sections that HAProxy took last.
func (c *custom) refuse(err error) error {
	c.log.Error("custom_config is refused, the last good one stays", "err", err)
	c.refused, c.err, c.text = c.text, err, c.good
	return err
}

// accept notes that HAProxy runs with the sections.
func (c *custom) accept() {
	if c.good == c.text {
		return
	}
	c.good = c.text
	if err := atomicfile.Write(c.path, []byte(c.good), 0o600); err != nil {
		c.log.Error("write the last good custom_config failed", "err", err)
	}
}
