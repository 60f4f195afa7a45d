package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// custom are the operator's own sections.
type custom struct {
	text    string // as it should run
	good    string // as HAProxy took it last, be it from an agent before us
	refused string // what HAProxy did not take: it is not tried again
	err     error  // why; nil when nothing is refused
}

// customProblem is what a problem with them goes by.
const customProblem = "custom_config"

func (a *Agent) goodCustomFile() string { return filepath.Join(a.dir, "custom_config.good") }

// loadCustom begins from the sections that worked before, so that a file which
// is broken or cannot be read when an agent starts takes nothing away.
func (a *Agent) loadCustom() {
	if a.o.Custom == nil {
		return
	}
	text, err := os.ReadFile(a.goodCustomFile())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Error("read the last good custom_config", "err", err)
		}
		return
	}
	a.custom.text, a.custom.good = string(text), string(text)
}

// customMoved tells whether the operator's file is not what was read last. It is
// small, and nothing tells of an edit.
func (a *Agent) customMoved() bool {
	if a.o.Custom == nil {
		return false
	}
	text, err := a.o.Custom()
	if err != nil {
		return a.problems[customProblem] == nil
	}
	return text != a.custom.text && text != a.custom.refused
}

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

// nameRunes are what a proxy's name may be made of.
const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"

// readCustom takes what the operator wrote now.
func (a *Agent) readCustom() {
	if a.o.Custom == nil {
		return
	}
	text, err := a.o.Custom()
	c := &a.custom
	switch {
	case err != nil:
		a.problems[customProblem] = err
	case c.err != nil && text == c.refused:
		a.problems[customProblem] = c.err
	case text != c.text:
		c.text, c.refused, c.err = text, "", nil
		a.hap.wishes.add(haproxy.CustomChanged, "custom_config changed")
	default:
		c.refused, c.err = "", nil
	}
}

// refuseCustom goes back to the sections that HAProxy took last.
func (a *Agent) refuseCustom(err error) {
	c := &a.custom
	a.problems[customProblem] = err
	a.log.Error("left out custom_config", "err", err)
	c.refused, c.err, c.text = c.text, err, c.good
}

// took notes that HAProxy runs with the sections.
func (c *custom) took(a *Agent) {
	if c.good == c.text {
		return
	}
	c.good = c.text
	if err := haproxy.WriteFile(a.goodCustomFile(), []byte(c.good), 0o600); err != nil {
		a.log.Error("wrote the last good custom_config", "err", err)
	}
}
