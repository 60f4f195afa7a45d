package cli

import (
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// A progress shows on stderr how a wait goes: one row a key that is redrawn in
// place on a terminal, one line a change otherwise. It is for one goroutine.
type progress struct {
	env   *Env
	keys  []string
	rows  map[string]string
	drawn int // lines on the terminal that the next draw replaces
}

// newProgress returns a progress without rows; call done at the end.
func newProgress(env *Env) *progress { return &progress{env: env, rows: map[string]string{}} }

// set gives the row of key a new text. The same text again does nothing. New
// keys come below the others.
func (p *progress) set(key, text string) {
	old, known := p.rows[key]
	if known && old == text {
		return
	}
	if !known {
		p.keys = append(p.keys, key)
	}
	p.rows[key] = text
	if !p.env.ErrTTY {
		fmt.Fprintln(p.env.Err, text)
		return
	}
	p.draw()
}

// say prints a line that stays, above the rows.
func (p *progress) say(text string) {
	p.erase()
	fmt.Fprintln(p.env.Err, text)
	if p.env.ErrTTY {
		p.draw()
	}
}

// finish says the last of key, whole, above the rows that go on.
func (p *progress) finish(key, text string) {
	p.erase()
	p.keys = slices.DeleteFunc(p.keys, func(k string) bool { return k == key })
	delete(p.rows, key)
	p.say(text)
}

// done leaves the rows as they are; what is printed next stands below them.
func (p *progress) done() { p.keys, p.rows, p.drawn = nil, map[string]string{}, 0 }

func (p *progress) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.env.Err, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
}

func (p *progress) draw() {
	p.erase()
	var b strings.Builder
	for _, k := range p.keys {
		row := p.rows[k]
		// A row that wraps would be two lines, and erase would leave one.
		if p.env.Width > 1 && lipgloss.Width(row) >= p.env.Width {
			row = lipgloss.NewStyle().MaxWidth(p.env.Width - 1).Render(row)
		}
		b.WriteString(row + "\n")
	}
	fmt.Fprint(p.env.Err, b.String())
	p.drawn = len(p.keys)
}
