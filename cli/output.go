package cli

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/gopaasta/paasta/paasta/command"
)

// A color says what a word means, not how it looks.
type color int

const (
	plain  color = iota
	good         // as asked for
	warn         // on its way, or less than asked for
	bad          // not as asked for
	faint        // of little interest
	strong       // a heading, a name
)

var styles = map[color]lipgloss.Style{
	good:   lipgloss.NewStyle().Foreground(lipgloss.Color("2")),
	warn:   lipgloss.NewStyle().Foreground(lipgloss.Color("3")),
	bad:    lipgloss.NewStyle().Foreground(lipgloss.Color("1")),
	faint:  lipgloss.NewStyle().Faint(true),
	strong: lipgloss.NewStyle().Bold(true),
}

// paint returns text, coloured where colour is wanted.
func (env *Env) paint(c color, text string) string {
	if !env.Color || c == plain || text == "" {
		return text
	}
	return styles[c].Render(text)
}

// printf writes to the answer. What it cannot write makes the command fail, in
// Main: an answer on a full disk is none.
func (env *Env) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(env.Out, format, args...); err != nil && env.lost == nil {
		env.lost = err
	}
}

// notef writes a line about the answer, to stderr.
func (env *Env) notef(format string, args ...any) { fmt.Fprintf(env.Err, format+"\n", args...) }

// printJSON writes v as indented JSON. An empty slice must not be nil, or it
// reads "null".
func (env *Env) printJSON(v any) error {
	return command.WriteJSON(env.Out, v)
}

// A table is rows of cells: aligned columns under a header on a terminal,
// tab-separated lines without a header in a pipe. Cells may be painted.
type table struct {
	env    *Env
	indent string // before every line, on a terminal only
	header []string
	rows   [][]string
}

func newTable(env *Env, header ...string) *table { return &table{env: env, header: header} }

// row adds one row.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table. Without rows it writes nothing.
func (t *table) print() {
	if len(t.rows) == 0 {
		return
	}
	if !t.env.TTY {
		for _, r := range t.rows {
			t.env.printf("%s\n", strings.Join(r, "\t"))
		}
		return
	}
	for _, line := range t.lines() {
		t.env.printf("%s\n", line)
	}
}

// lines returns the table as aligned lines, two spaces between columns. Where
// the terminal is narrower, cells of the widest columns go on in the next
// line; words stay whole, since a name that is broken cannot be copied.
func (t *table) lines() []string {
	header := make([]string, len(t.header))
	for i, h := range t.header {
		header[i] = t.env.paint(faint, h)
	}
	rows := t.rows
	if len(header) > 0 {
		rows = append([][]string{header}, rows...)
	}
	var widths, words []int // of each column, and of its longest word
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths, words = append(widths, 0), append(words, 0)
			}
			widths[i] = max(widths[i], lipgloss.Width(cell))
			for word := range strings.FieldsSeq(cell) {
				words[i] = max(words[i], lipgloss.Width(word))
			}
		}
	}
	width := len(t.indent) + 2*(len(widths)-1)
	for _, w := range widths {
		width += w
	}
	for ; t.env.TTY && t.env.Width > 0 && width > t.env.Width; width-- {
		widest := -1
		for i, w := range widths {
			if w > words[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	var lines []string
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, cell := range r {
			cells[i] = lipgloss.NewStyle().Width(widths[i] + 2).PaddingRight(2).Render(cell)
		}
		for line := range strings.SplitSeq(lipgloss.JoinHorizontal(lipgloss.Top, cells...), "\n") {
			lines = append(lines, strings.TrimRight(t.indent+line, " "))
		}
	}
	return lines
}

// when returns a time for the reader at hand: "2 hours ago" on a terminal, RFC
// 3339 in a pipe, "-" for the zero time.
func (env *Env) when(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case !env.TTY:
		return t.UTC().Format(time.RFC3339)
	}
	return ago(env.Now().Sub(t))
}

// ago says how long ago something was, in its largest unit.
func ago(d time.Duration) string {
	if d < -time.Second {
		return "in " + roughly(-d)
	}
	if d < 10*time.Second {
		return "just now"
	}
	return roughly(d) + " ago"
}

// roughly says a duration in its largest unit, e.g. "3 minutes".
func roughly(d time.Duration) string {
	units := []struct {
		name string
		len  time.Duration
	}{
		{"year", 365 * 24 * time.Hour},
		{"month", 30 * 24 * time.Hour},
		{"day", 24 * time.Hour},
		{"hour", time.Hour},
		{"minute", time.Minute},
	}
	for _, u := range units {
		if d >= u.len {
			return plural(int(d/u.len), u.name)
		}
	}
	return plural(int(d/time.Second), "second")
}

// plural says "1 task", "2 tasks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// taskUUID is the part of a task's id that tells it from others of its app.
func taskUUID(id string) string { return id[strings.LastIndex(id, ".")+1:] }

// short returns the first 8 characters of a commit.
func short(sha string) string { return sha[:min(8, len(sha))] }
